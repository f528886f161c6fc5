package job

import (
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// account counts the pods that are over, and releases them.
func (d *decision) account(v verdict) {
	if v.failure() {
		// What still ran when the Job failed has failed with it. (A pod that is
		// not tracked was given up before; one without an owner is adopted.)
		for _, pod := range d.removed {
			if tracked(pod) || !metav1.IsControlledBy(pod, d.Job) {
				d.countFailure(pod, v)
			}
		}
	}
	for i, pod := range d.succeeded {
		if !d.settle(pod) {
			return
		}
		d.counted.succeeded = d.succeeded[:i+1]
		if !d.indexed {
			d.status.Succeeded++
		}
	}
	for i, pod := range d.failed {
		if v.none() && d.Job.DeletionTimestamp == nil && d.keeps(pod) {
			continue
		}
		if !d.settle(pod) {
			return
		}
		d.counted.failed = d.failed[:i+1]
		d.countFailure(pod, v)
	}
	for _, pod := range d.strays {
		if !d.settle(pod) {
			return
		}
		if d.indexed && indexOf(pod, d.completions) == noIndex {
			d.note(corev1.EventTypeNormal, "PodNotCounted", "Pod "+pod.Name+" is not counted: it has no completion index of this Job")
		}
	}
	for _, pod := range d.givenUp(v) {
		if !d.settle(pod) {
			return
		}
		if v.failure() {
			d.countFailure(pod, v)
		}
	}
}

// settle releases a pod, unless the set has settled as many as it may.
func (d *decision) settle(pod *corev1.Pod) bool {
	if d.settled == batch {
		d.more = true
		return false
	}
	d.settled++
	d.release(pod)
	return true
}

// givenUp are the tracked pods that have not ended, when nobody is going to
// wait for that: the Job is over, or is being deleted.
func (d *decision) givenUp(v verdict) []*corev1.Pod {
	leaving := d.Job.DeletionTimestamp != nil
	if v.none() && !leaving {
		return nil
	}
	var pods []*corev1.Pod
	if ReplacesOnlyFailed(d.Job) { // otherwise they have failed, and are counted
		pods = slices.Concat(pods, d.terminating)
	}
	if v.none() { // otherwise they have been removed
		pods = slices.Concat(pods, d.active)
	}
	return slices.DeleteFunc(pods, func(pod *corev1.Pod) bool { return !tracked(pod) })
}

// keeps: the pod has to stay until the next pod of its index is created.
func (d *decision) keeps(pod *corev1.Pod) bool {
	if len(d.held) == 0 {
		return false
	}
	return d.held[indexOf(pod, d.completions)] == pod
}

// countFailure counts a pod as failed, unless podFailurePolicy ignores it or it
// has no index of the Job. It explains why, when no other pod takes its place.
func (d *decision) countFailure(pod *corev1.Pod, v verdict) {
	if d.indexed && indexOf(pod, d.completions) == noIndex {
		return
	}
	f := judge(d.Job.Spec.PodFailurePolicy, pod)
	if !f.counted() {
		d.note(corev1.EventTypeNormal, "PodFailureIgnored",
			fmt.Sprintf("Failure of pod %s is not counted: it matches Ignore rule at index %d", pod.Name, f.rule))
		return
	}
	d.status.Failed++
	if !v.failure() && d.Job.Spec.Completions == nil && d.successes > 0 {
		d.note(corev1.EventTypeNormal, "NotReplaced",
			fmt.Sprintf("Not replacing failed pod %s: another pod has succeeded, so that the work queue is taken to be done", pod.Name))
	}
}

// conclude records the verdict and, when no pod is left, the end.
func (d *decision) conclude(v verdict) {
	active := d.activeAfter()
	terminating := int32(len(d.terminating)) + d.lingering
	readyPods := countReady(d.active) - countReady(d.removed)
	d.status.Active, d.status.Ready, d.status.Terminating = active, &readyPods, &terminating
	if d.status.UncountedTerminatedPods == nil {
		d.status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	if v.none() {
		return
	}
	d.setCondition(v.target, corev1.ConditionTrue, v.reason, v.message)
	if d.more || active > 0 || terminating > 0 || !d.mayEnd() {
		return
	}
	d.setCondition(v.final(), corev1.ConditionTrue, v.reason, v.message)
	if v.failure() {
		d.note(corev1.EventTypeWarning, v.reason, v.message)
		return
	}
	d.status.CompletionTime = &d.second
	if c := d.Job.Spec.Completions; c != nil && d.status.Succeeded > *c {
		d.note(corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	d.note(corev1.EventTypeNormal, "Completed", "Job completed")
}

// mayEnd: the API has no Job that is over but never started, unless it is
// suspended and asks for no completions. Any other that gets there while it is
// suspended is over when it is resumed.
func (d *decision) mayEnd() bool {
	return d.status.StartTime != nil || suspended(d.Job) && d.completions == 0
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

// write adds the Job's new state to the set, if it is one.
func (d *decision) write(v verdict) {
	if d.more {
		d.set.Wake(d.now)
	}
	old := d.Job.Annotations[BackoffAnnotation]
	text := d.backoffText(old, v)
	if text == old && sameStatus(&d.status, &d.Job.Status) {
		d.guardJob()
		return
	}
	next := *d.Job
	next.Status = d.status
	if text != old {
		next.Annotations = maps.Clone(d.Job.Annotations)
		if next.Annotations == nil {
			next.Annotations = make(map[string]string, 1)
		}
		next.Annotations[BackoffAnnotation] = text
		if text == "" {
			delete(next.Annotations, BackoffAnnotation)
		}
	}
	d.set.Update(jobKey(d.Job), change.RevOf(d.Job), &next)
}

// sameStatus compares what a decision can change.
func sameStatus(a, b *batchv1.JobStatus) bool {
	return a.Active == b.Active && a.Succeeded == b.Succeeded && a.Failed == b.Failed &&
		ptr.Equal(a.Ready, b.Ready) && ptr.Equal(a.Terminating, b.Terminating) &&
		a.CompletedIndexes == b.CompletedIndexes && ptr.Equal(a.FailedIndexes, b.FailedIndexes) &&
		a.StartTime.Equal(b.StartTime) && a.CompletionTime.Equal(b.CompletionTime) &&
		slices.Equal(a.Conditions, b.Conditions) && a.UncountedTerminatedPods == b.UncountedTerminatedPods
}

// backoffText is the next value of BackoffAnnotation; "" removes it.
func (d *decision) backoffText(old string, v verdict) string {
	switch {
	case !v.none():
		return ""
	case d.perIndex:
		return d.tellWaiting(ParseIndexes(old, d.completions)).String()
	case d.more:
		// Pods that are left to be counted are left to be added, too.
		return parseStreak(old).after(d.counted.succeeded, d.counted.failed, d.now).String()
	}
	return d.streak.String()
}
