package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/disk"
	"github.com/sampan-batch/sampan/internal/engine"
	corejob "github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/plan"
)

// A run whose directory is kept can be gone on with by another one of the same input. What
// it was to do is written down beside the store before anything is created; how far it is,
// the store knows. In what order things happen:
//
//  1. the input is compared with what was written down, or is written down;
//  2. what others need is created, as far as it is not there;
//  3. each Job and Pod has its turn, unless it has ended: it is created, resumed or, with
//     --retry-failed, run again;
//  4. when the run ends before they have, Jobs are suspended, and Pods deleted.
//
// An engine that is killed does not come to 4. The next one makes up for it, see interrupted in
// package engine.

// earlier is what an earlier run has left; nothing in a new directory.
type earlier struct {
	goesOn bool                    // there was one
	jobs   map[string]*batchv1.Job // by namespace/name
	reruns map[string]*batchv1.Job // by the namespace/name of that which they run again
	pods   map[string]*corev1.Pod  // those that run alone, by namespace/name
}

// takeUp finds out what an earlier run of the plan has left in the directory that is kept.
// It refuses what is no run, or one of another input.
func (r *running) takeUp(ctx context.Context, p *plan.Plan) error {
	r.earlier = &earlier{jobs: map[string]*batchv1.Job{}, reruns: map[string]*batchv1.Job{}, pods: map[string]*corev1.Pod{}}
	jobs, err := r.client.BatchV1().Jobs(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	r.revision = jobs.ResourceVersion
	if r.keep == "" {
		return nil
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		r.earlier.jobs[keyOf(job)] = job
		if of := job.Annotations[kind.JobRerunOf]; of != "" {
			r.earlier.reruns[job.Namespace+"/"+of] = job
		}
	}
	if r.earlier.goesOn, err = r.compare(p, len(jobs.Items)); err != nil || !r.earlier.goesOn {
		return err
	}
	for _, o := range p.Objects {
		if _, ok := o.Object.(*corev1.Pod); !ok {
			continue
		}
		pod, err := r.client.CoreV1().Pods(o.GetNamespace()).Get(ctx, o.GetName(), metav1.GetOptions{})
		if err == nil {
			r.earlier.pods[keyOf(pod)] = pod
		} else if !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// compare holds the plan against what was written down, or writes it down. there is how
// many Jobs the directory has.
func (r *running) compare(p *plan.Plan, there int) (goesOn bool, err error) {
	now, err := p.Record(r.runtime)
	if err != nil {
		return false, err
	}
	path := filepath.Join(r.keep, engine.RunRecord)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && there > 0:
		return false, usage(fmt.Errorf("--keep: %s has Jobs of an engine, and no run that could be gone on with; give another directory", r.keep))
	case errors.Is(err, fs.ErrNotExist) && r.retryFailed:
		return false, usage(fmt.Errorf("--retry-failed: %s has no earlier run", r.keep))
	case errors.Is(err, fs.ErrNotExist):
		if data, err = json.Marshal(now); err != nil {
			return false, err
		}
		return false, disk.ReplaceDurably(path, data)
	case err != nil:
		return false, err
	}
	var before plan.Record
	if err := json.Unmarshal(data, &before); err != nil {
		return false, usage(fmt.Errorf("--keep: %s: %w; give another directory", path, err))
	}
	changes := before.Changes(now)
	if len(changes) == 0 {
		return true, nil
	}
	const most = 10
	if more := len(changes) - most; more > 0 {
		changes = append(changes[:most], fmt.Sprintf("and %d more", more))
	}
	return false, usage(fmt.Errorf("--keep: %s has a run of another input:\n  %s\nGo on with that one as it was, or give another directory", r.keep, strings.Join(changes, "\n  ")))
}

// keyOf names an object of a kind.
func keyOf(obj kind.Object) string { return obj.GetNamespace() + "/" + obj.GetName() }

// latest is the Job that a planned one has become: itself, or the last that ran it again;
// nil if it was never begun.
func (e *earlier) latest(planned *batchv1.Job) *batchv1.Job {
	last := e.jobs[keyOf(planned)]
	for last != nil && e.reruns[keyOf(last)] != nil {
		last = e.reruns[keyOf(last)]
	}
	return last
}

// turns are those of the works of a plan.
func (r *running) turns(p *plan.Plan) ([]*turn, error) {
	taken := map[string]bool{} // names that are not free for Jobs that run others again
	for name := range r.earlier.jobs {
		taken[name] = true
	}
	for _, o := range p.Objects {
		taken[keyOf(o)] = true
	}
	var turns []*turn
	for _, o := range p.Objects {
		if o.Role != plan.Work {
			continue
		}
		var t *turn
		switch obj := o.Object.(type) {
		case *batchv1.Job:
			limited := *obj
			limited.Spec.Parallelism = within(r.maxPods, &obj.Spec)
			var err error
			if t, err = r.jobTurn(&limited, taken); err != nil {
				return nil, err
			}
		case *corev1.Pod:
			t = r.podTurn(obj)
		}
		if begin := t.begin; begin != nil {
			t.begin = func(ctx context.Context) (kind.Object, error) {
				obj, err := begin(ctx)
				if err != nil {
					return nil, refusal(fmt.Errorf("%s: %w", o.Where, err))
				}
				return obj, nil
			}
		}
		turns = append(turns, t)
	}
	return turns, nil
}

// create is the turn of what was never begun.
func (r *running) create(obj kind.Object) *turn {
	return &turn{obj: obj, begin: func(ctx context.Context) (kind.Object, error) { return start(ctx, r.client, obj) }}
}

// jobTurn is how a Job goes on.
func (r *running) jobTurn(planned *batchv1.Job, taken map[string]bool) (*turn, error) {
	last := r.earlier.latest(planned)
	if last == nil {
		return r.create(planned), nil
	}
	parallelism := ptr.To(ptr.Deref(planned.Spec.Parallelism, 1))
	switch end := kind.JobEnd(last); {
	case end == nil:
		next := last.DeepCopy()
		next.Spec.Parallelism = parallelism
		return &turn{obj: next, begin: func(ctx context.Context) (kind.Object, error) { return r.resume(ctx, next) }}, nil
	case end.Type != batchv1.JobFailed || !r.retryFailed:
		return &turn{obj: last}, nil
	}
	next, done, err := prepareRerun(last, kind.Indexed(&last.Spec))
	if err != nil {
		return nil, err
	}
	next.Spec.Parallelism = parallelism
	for next.Name = nextName(last.Name); taken[keyOf(next)]; next.Name = nextName(next.Name) {
	}
	taken[keyOf(next)] = true
	return &turn{obj: next, again: true, begin: func(ctx context.Context) (kind.Object, error) {
		return createRerun(ctx, r.client, next, "", done)
	}}, nil
}

// resume lets a Job go on that was suspended. One that runs another again may not have been
// told yet what that had done.
func (r *running) resume(ctx context.Context, job *batchv1.Job) (kind.Object, error) {
	if carried := job.Annotations[kind.JobCarriedIndexes]; carried != "" && job.Status.StartTime == nil && job.Status.CompletedIndexes == "" {
		if err := tellDone(ctx, r.client, job, corejob.ParseIndexes(carried, *job.Spec.Completions)); err != nil {
			return nil, err
		}
	}
	return patchJob(ctx, r.client, job, object{"spec": object{"suspend": false, "parallelism": job.Spec.Parallelism}})
}

// podTurn is how a Pod goes on that has no Job.
func (r *running) podTurn(planned *corev1.Pod) *turn {
	last := r.earlier.pods[keyOf(planned)]
	switch {
	case last == nil:
		return r.create(planned)
	case kind.PodEnded(last) && (last.Status.Phase == corev1.PodSucceeded || !r.retryFailed):
		return &turn{obj: last}
	}
	return &turn{obj: planned, again: true, former: last.UID, begin: func(ctx context.Context) (kind.Object, error) {
		if err := r.clear(ctx, last); err != nil {
			return nil, err
		}
		return start(ctx, r.client, planned)
	}}
}

// clear deletes a pod that has ended, so that another can have its name.
func (r *running) clear(ctx context.Context, pod *corev1.Pod) error {
	err := r.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// tell says from where the run goes on.
func (r *running) tell(turns []*turn) {
	if !r.earlier.goesOn {
		return
	}
	ended, failed, again, noun := 0, 0, 0, "Jobs"
	for _, t := range turns {
		job, ok := t.obj.(*batchv1.Job)
		if !ok {
			noun = "Jobs and Pods"
		}
		switch {
		case t.begin == nil && ok && kind.JobEnd(job).Type == batchv1.JobFailed, t.begin == nil && !ok && t.obj.(*corev1.Pod).Status.Phase == corev1.PodFailed:
			ended, failed = ended+1, failed+1
		case t.begin == nil:
			ended++
		case t.again:
			again++
		}
	}
	note := fmt.Sprintf("going on: %d of %d %s have ended", ended, len(turns), noun)
	if job, ok := turns[0].obj.(*batchv1.Job); ok && len(turns) == 1 && ended == 0 {
		note = "going on: " + doneOf(job)
	}
	if ended == len(turns) {
		note = "nothing is left to run"
	}
	if failed > 0 {
		note += fmt.Sprintf("; %d failed, which --retry-failed runs again", failed)
	}
	if again > 0 {
		note += fmt.Sprintf("; %d that failed run again", again)
	}
	r.console.Note("%s", note)
}

// doneOf says how far a Job is.
func doneOf(job *batchv1.Job) string {
	unit, done := "pods", int(job.Status.Succeeded)
	if kind.Indexed(&job.Spec) {
		unit = "indexes"
		if carried := job.Annotations[kind.JobCarriedIndexes]; done == 0 && carried != "" {
			done = int(corejob.ParseIndexes(carried, *job.Spec.Completions).Len())
		}
	}
	return fmt.Sprintf("%d of %d %s are done", done, ptr.Deref(job.Spec.Completions, 1), unit)
}
