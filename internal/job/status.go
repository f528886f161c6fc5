package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/reason"
)

// wholeSeconds is a time as the API keeps it.
func wholeSeconds(now time.Time) *metav1.Time {
	return ptr.To(metav1.NewTime(now.Truncate(time.Second)))
}

// nextStatus is the Job's status once the plan is carried out and what is accounted
// for is counted; its conditions are as before. lingering is how many of the pods
// that are deleted stay a while as terminating. It shares what does not change.
func (d *decision) nextStatus(now time.Time, lingering int32) batchv1.JobStatus {
	job := d.job
	st := job.Status
	st.StartTime = startTime(now, job)
	active, ready := d.activeAfter(), countReady(d.active)-countReady(d.remove)
	terminating := int32(len(d.terminating)) + lingering
	st.Active, st.Ready, st.Terminating = active, &ready, &terminating
	st.Failed = d.counted.failed + d.account.failed
	st.Succeeded = d.counted.succeeded + d.account.succeeded
	if indexed(job) {
		d.setIndexes(&st)
	}
	if u := st.UncountedTerminatedPods; u == nil || len(u.Succeeded)+len(u.Failed) > 0 {
		st.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	return st
}

// setIndexes writes what the indexes of an Indexed Job have got to.
func (d *decision) setIndexes(st *batchv1.JobStatus) {
	st.Succeeded, st.CompletedIndexes = d.successes, d.index.completed
	if !perIndex(d.job) {
		st.FailedIndexes = nil
	} else if text := d.index.lost.String(); st.FailedIndexes == nil || *st.FailedIndexes != text {
		st.FailedIndexes = &text
	}
}

// activeAfter is how many pods are active when the set is applied.
func (d *decision) activeAfter() int32 {
	return int32(len(d.active) - len(d.remove) + len(d.start))
}

func countReady(pods []*corev1.Pod) int32 {
	var n int32
	for _, pod := range pods {
		if ready(pod) {
			n++
		}
	}
	return n
}

// suspend keeps the Suspended condition of a Job that goes on. A Job that resumes
// starts anew as far as its deadline is concerned.
func suspend(st *batchv1.JobStatus, job *batchv1.Job, now time.Time) []note {
	switch {
	case job.DeletionTimestamp != nil:
	case suspended(job):
		st.StartTime = nil
		if setCondition(st, now, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
			return []note{normal(reason.Suspended, "Job suspended")}
		}
	case setCondition(st, now, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed"):
		st.StartTime = wholeSeconds(now)
		return []note{normal(reason.Resumed, "Job resumed")}
	}
	return nil
}

// record writes the verdict into the status and, when no pod is left, the end. more
// says that pods are left for the next set.
func (v verdict) record(st *batchv1.JobStatus, job *batchv1.Job, now time.Time, more bool) []note {
	if v.none() {
		return nil
	}
	setCondition(st, now, v.target, corev1.ConditionTrue, v.reason, v.message)
	if more || st.Active > 0 || *st.Terminating > 0 || !mayEnd(st, job) {
		return nil
	}
	setCondition(st, now, v.final(), corev1.ConditionTrue, v.reason, v.message)
	if v.failure() {
		return []note{warning(v.reason, v.message)}
	}
	st.CompletionTime = wholeSeconds(now)
	done := normal(reason.Completed, "Job completed")
	if c := job.Spec.Completions; c != nil && st.Succeeded > *c {
		return []note{warning(reason.TooManySucceededPods, "Too many succeeded pods running after completion count reached"), done}
	}
	return []note{done}
}

// mayEnd: the API has no Job that is over but never started, unless it is
// suspended and asks for no completions. Any other that gets there while it is
// suspended is over when it is resumed.
func mayEnd(st *batchv1.JobStatus, job *batchv1.Job) bool {
	return st.StartTime != nil || suspended(job) && completions(job) == 0
}

// setCondition reports whether it changed anything. A condition that never was
// True does not become False.
func setCondition(st *batchv1.JobStatus, now time.Time, t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) bool {
	next := batchv1.JobCondition{
		Type: t, Status: status, Reason: reason, Message: message,
		LastProbeTime: *wholeSeconds(now), LastTransitionTime: *wholeSeconds(now),
	}
	list := st.Conditions
	i := slices.IndexFunc(list, func(c batchv1.JobCondition) bool { return c.Type == t })
	switch {
	case i < 0 && status == corev1.ConditionFalse:
		return false
	case i < 0:
		st.Conditions = append(slices.Clip(list), next)
		return true
	case list[i].Status == status && list[i].Reason == reason && list[i].Message == message:
		return false
	}
	st.Conditions = slices.Clone(list)
	st.Conditions[i] = next
	return true
}

// sameStatus compares what a decision can change.
func sameStatus(a, b *batchv1.JobStatus) bool {
	return a.Active == b.Active && a.Succeeded == b.Succeeded && a.Failed == b.Failed &&
		ptr.Equal(a.Ready, b.Ready) && ptr.Equal(a.Terminating, b.Terminating) &&
		a.CompletedIndexes == b.CompletedIndexes && ptr.Equal(a.FailedIndexes, b.FailedIndexes) &&
		a.StartTime.Equal(b.StartTime) && a.CompletionTime.Equal(b.CompletionTime) &&
		slices.Equal(a.Conditions, b.Conditions) && a.UncountedTerminatedPods == b.UncountedTerminatedPods
}

// backoffText is the next value of BackoffAnnotation, where old is the present one;
// "" removes it. It explains, once for each failure, why indexes are not retried yet.
// more says that pods are left for the next set: those that are left to be counted
// are left to be added to the row of failures, too.
func (d *decision) backoffText(now time.Time, old string, more bool) (string, []note) {
	switch {
	case !d.verdict.none():
		return "", nil
	case perIndex(d.job):
		return d.waitingIndexes(now, ParseIndexes(old, completions(d.job)))
	case more:
		return parseStreak(old).after(d.account.of(success), d.account.of(failure), now).String(), nil
	}
	s := d.streak
	s.told = s.told || d.told
	return s.String(), nil
}

// waitingIndexes are those whose wait an event has told: those of told that still
// wait to be retried, and those that it is told of now.
func (d *decision) waitingIndexes(now time.Time, told Indexes) (string, []note) {
	var c collector
	for i := range d.plan.held {
		if told.Has(i) {
			c.add(i)
		}
	}
	still, _ := c.set()
	next := still.union(d.waits).String()
	untold := d.waits.minus(told)
	if len(untold) == 0 {
		return next, nil
	}
	var first time.Time
	for i := range untold.All() {
		if at := retryAt(d.plan.held[i], now); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return next, []note{normal(reason.BackOff, fmt.Sprintf("Waiting before retrying failed %s, until %s at the earliest",
		naming(untold), first.UTC().Format(time.RFC3339)))}
}
