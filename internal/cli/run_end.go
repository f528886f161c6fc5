package cli

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
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
	for _, obj := range all {
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

// remove deletes a Job with its pods, or a pod.
func remove(ctx context.Context, client kubernetes.Interface, obj kind.Object) error {
	options := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}
	if _, ok := obj.(*corev1.Pod); ok {
		return client.CoreV1().Pods(obj.GetNamespace()).Delete(ctx, obj.GetName(), metav1.DeleteOptions{})
	}
	return client.BatchV1().Jobs(obj.GetNamespace()).Delete(ctx, obj.GetName(), options)
}

// patienceWith is how long the pods of what runs may take to end.
func patienceWith(running []kind.Object) time.Duration {
	var grace int64
	for _, obj := range running {
		switch obj := obj.(type) {
		case *batchv1.Job:
			grace = max(grace, ptr.Deref(obj.Spec.Template.Spec.TerminationGracePeriodSeconds, 30))
		case *corev1.Pod:
			grace = max(grace, ptr.Deref(obj.Spec.TerminationGracePeriodSeconds, 30))
		}
	}
	return time.Duration(grace)*time.Second + 10*time.Second
}
