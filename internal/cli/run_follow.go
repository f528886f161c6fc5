package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/plan"
)

// follow carries the plan out and follows what runs. limited ends when the run is to.
func (o *runOptions) follow(ctx, limited context.Context, e *engine.Engine, p *plan.Plan, logs *logReaders, stops *signals) error {
	config := e.RESTConfig()
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
	r := &running{
		runControl: o.runControl, runtime: o.runtime, client: client, stops: stops, console: logs.console,
		follower: newFollower(client, logs, true),
	}
	defer r.follower.Close()
	r.follower.noLogs = true // the engine hands them over
	r.follower.local = e.Watch
	r.follower.failFast = o.failFast
	if err := r.begin(watched, config, p); err != nil && watched.Err() == nil {
		return err
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

// begin prepares what the works need, and their turns.
func (r *running) begin(ctx context.Context, config *rest.Config, p *plan.Plan) error {
	if err := r.takeUp(ctx, p); err != nil {
		return err
	}
	turns, err := r.turns(p)
	if err != nil {
		return err
	}
	r.tell(turns)
	r.follower.await(newQueue(r.stops.kill, r.maxPods, turns), r.revision)
	for _, o := range p.Objects {
		if o.Role == plan.Companion {
			r.follower.board.Beside(time.Now(), o.Kind.GVK.Kind, o.GetNamespace(), o.GetName(), int(o.Pods))
		}
	}
	if r.companions, err = apply(ctx, config, p, r.earlier.goesOn); err != nil {
		return usage(err)
	}
	return nil
}

// works is how many Jobs and Pods a plan is about.
func works(p *plan.Plan) (n int64) {
	for _, o := range p.Objects {
		if o.Role == plan.Work {
			n++
		}
	}
	return n
}

// companions is how many pods run beside them.
func companions(p *plan.Plan) (n int64) {
	for _, o := range p.Objects {
		n += int64(o.Pods)
	}
	return n
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
	runControl
	runtime    string
	client     kubernetes.Interface
	stops      *signals
	console    *console
	follower   *follower
	companions []kind.Object

	revision string // of the API, before this run did anything
	earlier  *earlier
}

// toEnd follows the run until it has ended, or watched ends, and ends what runs then.
func (r *running) toEnd(watched context.Context) (board.Result, error) {
	cause := context.Cause(watched)
	if cause == nil {
		cause = r.follower.Run(watched)
	}
	open := r.follower.settle(r.stops.kill) // first: what is still being begun is in the result
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
	r.end(open)
	if r.keep == "" || cause == nil {
		return res, nil
	}
	r.console.Note("what is done is kept; the same command goes on from here")
	return r.follower.result(cause) // which is what is left, suspended
}
