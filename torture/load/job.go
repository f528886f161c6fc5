package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/report"
)

// jobWithin is how long a Job may take, beside others and while engines are killed.
const jobWithin = 3 * time.Minute

// look is how often a client looks at what it waits for.
const look = 150 * time.Millisecond

// runner runs one Job after the other, holds its end against what its pods have
// written down, and deletes it.
type runner struct {
	load   *Load
	client kubernetes.Interface
	name   string
	random *rand.Rand
	serial int
}

func (r *runner) run(ctx context.Context) {
	for ctx.Err() == nil && !r.load.ended() {
		r.serial++
		name := fmt.Sprintf("%s-%d", r.name, r.serial)
		job := r.draw(name)
		if r.random.IntN(8) == 0 {
			r.deleteRunning(ctx, job)
		} else {
			r.toItsEnd(ctx, job)
		}
		r.load.ledger.forget(name)
	}
}

// draw is a Job of one of the kinds that there are.
func (r *runner) draw(name string) *batchv1.Job {
	w := work{lines: r.random.IntN(200), sleep: fmt.Sprintf("0.%d", r.random.IntN(9))}
	spec := batchv1.JobSpec{BackoffLimit: ptr.To(int32(10000)), Completions: ptr.To(int32(1)), Parallelism: ptr.To(int32(1))}
	switch r.random.IntN(6) {
	case 0:
		spec.Completions, spec.Parallelism = ptr.To(int32(3)), ptr.To(int32(2))
	case 1, 2:
		spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
		spec.Completions, spec.Parallelism = ptr.To(int32(4)), ptr.To(int32(3))
	case 3:
		w.code, spec.BackoffLimit = 3, ptr.To(int32(0))
	case 4:
		spec.Suspend = ptr.To(true)
	}
	spec.Template = r.load.ledger.template(w)
	meta := metav1.ObjectMeta{Name: name, Annotations: map[string]string{linesKey: fmt.Sprint(w.lines)}}
	return &batchv1.Job{ObjectMeta: meta, Spec: spec}
}

// linesKey is the annotation that says how many lines each pod writes to its log.
const linesKey = "torture/lines"

// create creates a Job; one that was not answered is created again, and must be
// there once.
func (r *runner) create(ctx context.Context, job *batchv1.Job) bool {
	asked := false
	_, err := again(ctx, r.load, func(ctx context.Context) (*batchv1.Job, error) {
		got, err := r.client.BatchV1().Jobs(Namespace).Create(ctx, job, metav1.CreateOptions{})
		if asked && apierrors.IsAlreadyExists(err) { // so it was done
			return got, nil
		}
		asked = asked || outcomeOf(err) == unanswered
		return got, err
	})
	if err != nil {
		r.load.findUnless(ctx, fmt.Errorf("create Job %s: %w", job.Name, err))
		return false
	}
	r.load.Report.Count(report.Writes, 1)
	return true
}

// toItsEnd runs a Job, and checks what came of it.
func (r *runner) toItsEnd(ctx context.Context, job *batchv1.Job) {
	if !r.create(ctx, job) {
		return
	}
	follow := r.random.IntN(3) == 0 && !r.load.Lenient
	if ptr.Deref(job.Spec.Suspend, false) {
		pause(ctx, time.Duration(r.random.IntN(300))*time.Millisecond)
		r.patch(ctx, job.Name, map[string]any{"spec": map[string]any{"suspend": false}})
	}
	followed := make(chan struct{})
	if follow {
		go func() { r.followOne(ctx, job); close(followed) }()
	} else {
		close(followed)
	}
	ended := r.await(ctx, job.Name)
	<-followed
	if ended != nil {
		r.check(ctx, ended)
		r.delete(ctx, job.Name)
	}
}

// patch changes a Job, until the server says that it has.
func (r *runner) patch(ctx context.Context, name string, change map[string]any) {
	body, _ := json.Marshal(change)
	_, err := again(ctx, r.load, func(ctx context.Context) (*batchv1.Job, error) {
		return r.client.BatchV1().Jobs(Namespace).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{})
	})
	if err != nil {
		r.load.findUnless(ctx, fmt.Errorf("patch Job %s: %w", name, err))
		return
	}
	r.load.Report.Count(report.Writes, 1)
}

// await returns the Job when it has ended; nil: it never did, which was reported.
func (r *runner) await(ctx context.Context, name string) *batchv1.Job {
	var failed int32
	var last *batchv1.Job
	for end := time.Now().Add(jobWithin); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, look) {
		job, err := again(ctx, r.load, func(ctx context.Context) (*batchv1.Job, error) {
			return r.client.BatchV1().Jobs(Namespace).Get(ctx, name, metav1.GetOptions{})
		})
		if err != nil {
			r.load.findUnless(ctx, fmt.Errorf("job %s was acknowledged and is lost: %w", name, err))
			return nil
		}
		if last = job; conditionOf(job) != "" {
			return job
		}
		if job.Status.Failed > failed {
			failed = job.Status.Failed
			r.forgiveBackoff(ctx, name)
		}
	}
	if last != nil {
		status, _ := json.Marshal(last.Status)
		r.load.findUnless(ctx, fmt.Errorf("job %s has not ended after %s: %s", name, jobWithin, status))
	}
	return nil
}

// forgiveBackoff ends the wait before the next pod, which is minutes after a few
// failures: supervisors that are killed make many.
func (r *runner) forgiveBackoff(ctx context.Context, name string) {
	const longAgo = "1 2000-01-01T00:00:00Z"
	r.patch(ctx, name, map[string]any{"metadata": map[string]any{"annotations": map[string]string{"sampan.dev/backoff": longAgo}}})
}

// conditionOf is how a Job ended, "" as long as it has not.
func conditionOf(job *batchv1.Job) batchv1.JobConditionType {
	for _, c := range job.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return c.Type
		}
	}
	return ""
}

// podsOf lists the pods of a Job.
func (r *runner) podsOf(ctx context.Context, job string) ([]corev1.Pod, error) {
	list, err := again(ctx, r.load, func(ctx context.Context) (*corev1.PodList, error) {
		return r.client.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job})
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// check holds a Job that has ended against its pods and what they have written.
func (r *runner) check(ctx context.Context, job *batchv1.Job) {
	all, err := r.podsOf(ctx, job.Name)
	if err != nil {
		r.load.findUnless(ctx, fmt.Errorf("pods of Job %s: %w", job.Name, err))
		return
	}
	r.load.find(runOf(job, all, r.load.ledger).Check()...)
	r.load.Report.Count(report.Jobs, 1)
	r.load.Report.Count("pods", len(all))
	if !r.load.Lenient {
		r.checkLog(ctx, job, all)
	}
}

// runOf is what the model knows of a Job.
func runOf(job *batchv1.Job, all []corev1.Pod, l *ledger) *model.Run {
	run := &model.Run{
		Job: job.Name, Completions: int(ptr.Deref(job.Spec.Completions, 1)), Failed: conditionOf(job) == batchv1.JobFailed,
		Indexed:          ptr.Deref(job.Spec.CompletionMode, "") == batchv1.IndexedCompletion,
		CountedSucceeded: int(job.Status.Succeeded), CountedFailed: int(job.Status.Failed),
	}
	run.Started, run.Ended = l.read(job.Name)
	for _, p := range all {
		run.Pods = append(run.Pods, model.Pod{Name: p.Name, Index: p.Annotations[batchv1.JobCompletionIndexAnnotation], Phase: string(p.Status.Phase)})
	}
	return run
}

// delete deletes a Job with its pods.
func (r *runner) delete(ctx context.Context, name string) bool {
	_, err := again(ctx, r.load, func(ctx context.Context) (*batchv1.Job, error) {
		opts := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}
		return nil, r.client.BatchV1().Jobs(Namespace).Delete(ctx, name, opts)
	})
	if err != nil && !apierrors.IsNotFound(err) { // not found: done before, and not answered
		r.load.findUnless(ctx, fmt.Errorf("delete Job %s: %w", name, err))
		return false
	}
	r.load.Report.Count(report.Writes, 1)
	return true
}

// deleteRunning deletes a Job while its pods run: they must be gone soon, and never
// begin again.
func (r *runner) deleteRunning(ctx context.Context, job *batchv1.Job) {
	job.Spec.Suspend = nil
	if !r.create(ctx, job) {
		return
	}
	pause(ctx, time.Duration(r.random.IntN(500))*time.Millisecond)
	if !r.delete(ctx, job.Name) {
		return
	}
	for end := time.Now().Add(jobWithin); ; pause(ctx, look) {
		all, err := r.podsOf(ctx, job.Name)
		if err == nil && len(all) == 0 {
			break
		}
		if ctx.Err() != nil || time.Now().After(end) {
			r.load.findUnless(ctx, fmt.Errorf("job %s is deleted, and %d pods are left: %w", job.Name, len(all), err))
			return
		}
	}
	before, _ := r.load.ledger.read(job.Name)
	pause(ctx, look)
	after, _ := r.load.ledger.read(job.Name)
	if len(after) > len(before) {
		r.load.find(fmt.Errorf("job %s is deleted and its pods gone, and a container has begun", job.Name))
	}
	r.load.Report.Count("jobs deleted", 1)
}

// findUnless reports what is wrong, unless everything is being given up.
func (l *Load) findUnless(ctx context.Context, err error) {
	if ctx.Err() == nil {
		l.find(err)
	}
}
