package cli

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// end deletes what is open, or, where another run may go on with it, suspends it, and waits
// until its pods have ended. Where that cannot be, as on a full disk, the engine takes what
// is left with it.
func (r *running) end(open []kind.Object) {
	f := r.follower
	leaving := append(open, r.companions...)
	if len(leaving) == 0 {
		return
	}
	patience := patienceWith(leaving)
	ctx, cancel := context.WithTimeout(r.stops.kill, patience)
	defer cancel()
	f.leave(leaving, r.keep != "")
	if len(open) == 0 { // else it was said why, and that it may take a while
		defer time.AfterFunc(2*time.Second, func() {
			r.console.Note("ending what ran beside, gracefully, within %s (Ctrl-C twice kills it)", patience)
		}).Stop()
	}
	if obj, err := r.dismiss(ctx, leaving); err != nil {
		if r.stops.kill.Err() == nil {
			r.console.Note("warning: %s %s: %v; killing the pods", r.farewell(), obj.GetName(), err)
		}
		return
	}
	if f.Run(ctx) != nil && r.stops.kill.Err() == nil {
		r.console.Note("warning: the pods have not ended within %s; killing them", patience)
	}
}

// farewell is what is done to Jobs that have not ended.
func (r *running) farewell() string {
	if r.keep != "" {
		return "suspend"
	}
	return "delete"
}

// dismiss deletes or suspends objects, several at a time, and returns the first with which
// that could not be done.
func (r *running) dismiss(ctx context.Context, all []kind.Object) (first kind.Object, err error) {
	var group errgroup.Group
	group.SetLimit(callsAtATime)
	errs := make([]error, len(all))
	for i, obj := range all {
		group.Go(func() error {
			if job, ok := obj.(*batchv1.Job); ok && r.keep != "" {
				_, errs[i] = patchJob(ctx, r.client, job, object{"spec": object{"suspend": true}})
			} else {
				errs[i] = remove(ctx, r.client, obj)
			}
			return nil
		})
	}
	_ = group.Wait()
	for i, err := range errs {
		switch {
		case apierrors.IsNotFound(err):
			r.follower.left(all[i], true)
		case err != nil:
			return all[i], err
		}
	}
	return nil, nil
}

// settle waits for the calls that are under way, begins nothing any more, and returns the
// works that have begun and not ended.
func (f *follower) settle(ctx context.Context) []kind.Object {
	f.queue.close()
	for f.queue.calls > 0 && ctx.Err() == nil {
		select {
		case b := <-f.queue.done:
			_ = f.takeBegun(b) // what could not begin need not end
		case <-ctx.Done():
		}
	}
	return f.board.Open()
}

// leave says that these are to leave nothing running; resting: Jobs stay, suspended.
func (f *follower) leave(all []kind.Object, resting bool) {
	f.board.Leave()
	f.resting = resting
	f.leaving = make(map[types.UID]bool, len(all))
	for _, pod := range f.board.PodsBeside() {
		f.works[pod.UID], f.leaving[pod.UID] = true, true
	}
	for _, obj := range all {
		switch obj.(type) {
		case *batchv1.Job, *corev1.Pod:
		default:
			continue // it leaves with its pods
		}
		f.works[obj.GetUID()] = true // its end is awaited, if it was not before
		if job, ok := obj.(*batchv1.Job); ok {
			f.jobs[job.UID] = job
		}
		f.leaving[obj.GetUID()] = true
	}
}

// left takes note of one that may leave nothing running any more: it is gone, or a Job that
// rests or has ended where it was to be suspended.
func (f *follower) left(obj kind.Object, gone bool) {
	if job, ok := obj.(*batchv1.Job); ok && f.resting {
		s := &job.Status
		gone = gone || kind.JobEnd(job) != nil ||
			kind.JobCondition(s, batchv1.JobSuspended) != nil && s.Active == 0 && ptr.Deref(s.Terminating, 0) == 0
	}
	if gone {
		delete(f.leaving, obj.GetUID())
	}
}

// remove deletes what runs: a pod, or what makes pods, with these.
func remove(ctx context.Context, client kubernetes.Interface, obj kind.Object) error {
	ns, name := obj.GetNamespace(), obj.GetName()
	options := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}
	switch obj.(type) {
	case *corev1.Pod:
		return client.CoreV1().Pods(ns).Delete(ctx, name, metav1.DeleteOptions{})
	case *batchv1.Job:
		return client.BatchV1().Jobs(ns).Delete(ctx, name, options)
	case *appsv1.Deployment:
		return client.AppsV1().Deployments(ns).Delete(ctx, name, options)
	case *appsv1.StatefulSet:
		return client.AppsV1().StatefulSets(ns).Delete(ctx, name, options)
	case *appsv1.DaemonSet:
		return client.AppsV1().DaemonSets(ns).Delete(ctx, name, options)
	case *appsv1.ReplicaSet:
		return client.AppsV1().ReplicaSets(ns).Delete(ctx, name, options)
	case *corev1.ReplicationController:
		return client.CoreV1().ReplicationControllers(ns).Delete(ctx, name, options)
	}
	return fmt.Errorf("%T does not run", obj)
}

// patienceWith is how long the pods of what runs may take to end.
func patienceWith(running []kind.Object) time.Duration {
	var grace int64
	for _, obj := range running {
		if _, spec := kind.PodOf(obj); spec != nil {
			grace = max(grace, ptr.Deref(spec.TerminationGracePeriodSeconds, 30))
		}
	}
	const more = 10 // to see it
	return kind.Seconds(min(grace, math.MaxInt64-more) + more)
}
