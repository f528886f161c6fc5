package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/plan"
)

// follow carries the plan out and follows what runs. limited ends when the run is to.
func (o *runOptions) follow(ctx, limited context.Context, config *rest.Config, p *plan.Plan, logs *logReaders, stops *signals) error {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := makeClaims(p.Claims); err != nil { // in a directory that the engine has found safe
		return err
	}
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(limited, func() { cancel(context.Cause(limited)) })()
	jobs, err := client.BatchV1().Jobs(metav1.NamespaceAll).List(watched, metav1.ListOptions{})
	if err != nil {
		return err
	}
	r := &running{
		client: client, stops: stops, console: logs.console,
		follower: newFollower(client, logs, true),
	}
	defer r.follower.Close()
	r.follower.noLogs = true // the engine hands them over
	r.follower.failFast = o.failFast
	r.follower.await(newQueue(stops.kill, o.maxPods, o.turns(client, p)), jobs.ResourceVersion)
	if r.companions, err = apply(watched, config, p); err != nil && watched.Err() == nil {
		return usage(err)
	}
	if o.timeout > 0 {
		defer time.AfterFunc(o.timeout, func() { cancel(errTimedOut) }).Stop()
	}
	res, err := r.toEnd(watched)
	if err != nil {
		return err
	}
	return conclude(res, o.output, logs.console)
}

// companions is how many pods of a plan run beside its works.
func companions(p *plan.Plan) (n int64) {
	for _, o := range p.Objects {
		if o.Role == plan.Companion {
			n++
		}
	}
	return n
}

// turns are the works of a plan, which are created one after the other.
func (o *runOptions) turns(client kubernetes.Interface, p *plan.Plan) []*turn {
	var turns []*turn
	for _, planned := range p.Objects {
		if planned.Role != plan.Work {
			continue
		}
		obj := o.limited(planned.Object)
		turns = append(turns, &turn{obj: obj, begin: func(ctx context.Context) (kind.Object, error) {
			got, err := start(ctx, client, obj)
			if err != nil {
				return nil, refusal(fmt.Errorf("%s: %w", planned.Where, err))
			}
			return got, nil
		}})
	}
	return turns
}

// limited is a work that has no more pods at a time than may run.
func (o *runOptions) limited(obj kind.Object) kind.Object {
	job, ok := obj.(*batchv1.Job)
	if !ok {
		return obj
	}
	limited := *job
	limited.Spec.Parallelism = within(o.maxPods, &job.Spec)
	return &limited
}

// start creates a Job or a Pod.
func start(ctx context.Context, client kubernetes.Interface, obj kind.Object) (kind.Object, error) {
	switch obj := obj.(type) {
	case *batchv1.Job:
		return client.BatchV1().Jobs(obj.Namespace).Create(ctx, obj, strict)
	case *corev1.Pod:
		return client.CoreV1().Pods(obj.Namespace).Create(ctx, obj, strict)
	}
	return nil, fmt.Errorf("%T does not run", obj)
}

// refusal marks an error of the API as the user's, unless the engine could not do what
// was right.
func refusal(err error) error {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Code < 500 && !apierrors.IsTooManyRequests(err) {
		return usage(err)
	}
	return err
}

// failedFast is why a run ends early.
type failedFast struct{ why string }

func (e *failedFast) Error() string { return e.why }

// running is a run under way.
type running struct {
	client     kubernetes.Interface
	stops      *signals
	console    *console
	follower   *follower
	companions []kind.Object
}

// toEnd follows the run until it has ended, or watched ends, and ends what runs then.
func (r *running) toEnd(watched context.Context) (board.Result, error) {
	cause := context.Cause(watched)
	if cause == nil {
		cause = r.follower.Run(watched)
	}
	res, err := r.follower.result(cause)
	if err != nil {
		return res, err
	}
	var early *failedFast
	switch {
	case errors.As(cause, &early):
		r.console.Note("%s; ending what still runs (--fail-fast)", cause)
	case cause != nil && res.Reason == "":
		r.console.Note("%s: ending the pods gracefully (Ctrl-C again kills them)", cause)
	}
	r.end()
	return res, nil
}
