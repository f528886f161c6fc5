package job

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/reason"
)

// account is which pods are accounted for now, and what that adds to the status.
type account struct {
	entries           []entry
	succeeded, failed int32
	more              bool // more pods are left than fit one set
}

// entry is a pod that is accounted for: counted, as what it was, and released.
type entry struct {
	pod    *corev1.Pod
	as     outcome
	counts bool  // in status.succeeded or status.failed
	note   *note // what there is to say of it
}

// outcome is what a pod counts as.
type outcome uint8

const (
	nothing outcome = iota
	void            // cannot count
	success
	failure
	lostFailure // with its Job: the plan has deleted and released it
)

// accountOf counts the pods that are over, and those that are given up: so many at
// a time.
func accountOf(c census, p progress, v verdict, pl plan) account {
	ended := openEntries(c, v, pl)
	a := account{more: len(ended) > batch}
	a.entries = slices.Concat(lostWithJob(c, v, pl), ended[:min(len(ended), batch)])
	for i := range a.entries {
		switch e := &a.entries[i]; {
		case c.counted.unreleased[e.pod.UID] && e.as != success:
			// is only to be released
		case e.as == success:
			e.counts = true
			a.succeeded++
		case e.as == void && ofNoIndex(c.job, e.pod):
			e.note = say(normal(reason.PodNotCounted, "Pod "+e.pod.Name+" is not counted: it has no completion index of this Job"))
		case e.as == failure || e.as == lostFailure:
			a.countFailure(e, c, p, v)
		}
	}
	return a
}

// lostWithJob is what still ran when the Job failed: it has failed with it. A pod
// that is not tracked was given up before; one without an owner is adopted.
func lostWithJob(c census, v verdict, pl plan) []entry {
	var lost []entry
	for _, pod := range pl.remove {
		if v.failure() && (tracked(pod) || !metav1.IsControlledBy(pod, c.job)) {
			lost = append(lost, entry{pod: pod, as: lostFailure})
		}
	}
	return lost
}

// openEntries are all pods that can be accounted for, in the order in which that is
// done.
func openEntries(c census, v verdict, pl plan) []entry {
	var all []entry
	add := func(pods []*corev1.Pod, as outcome) {
		for _, pod := range pods {
			all = append(all, entry{pod: pod, as: as})
		}
	}
	add(c.succeeded, success)
	if v.none() && c.job.DeletionTimestamp == nil && len(pl.held) > 0 {
		// These have to stay until the next pod of their index is created.
		add(slices.DeleteFunc(slices.Clone(c.failed), func(pod *corev1.Pod) bool {
			return pl.held[indexOf(pod, completions(c.job))] == pod
		}), failure)
	} else {
		add(c.failed, failure)
	}
	add(c.void, void)
	if v.failure() {
		add(givenUp(c, v), failure)
	} else {
		add(givenUp(c, v), nothing)
	}
	return all
}

// givenUp are the tracked pods that have not ended, when nobody is going to
// wait for that: the Job is over, or is being deleted.
func givenUp(c census, v verdict) []*corev1.Pod {
	if v.none() && c.job.DeletionTimestamp == nil {
		return nil
	}
	var pods []*corev1.Pod
	if ReplacesOnlyFailed(c.job) { // otherwise they have failed, and are counted
		pods = slices.Concat(pods, c.terminating)
	}
	if v.none() { // otherwise the plan has deleted them
		pods = slices.Concat(pods, c.active)
	}
	return slices.DeleteFunc(pods, func(pod *corev1.Pod) bool { return !tracked(pod) })
}

// countFailure counts a pod as failed, unless podFailurePolicy ignores it or it has
// no index of the Job. It explains why, when no other pod takes its place.
func (a *account) countFailure(e *entry, c census, p progress, v verdict) {
	if ofNoIndex(c.job, e.pod) {
		return
	}
	f := judge(c.job.Spec.PodFailurePolicy, e.pod)
	if !f.counted() {
		e.note = say(normal(reason.PodFailureIgnored, fmt.Sprintf("Failure of pod %s is not counted: it matches Ignore rule at index %d", e.pod.Name, f.rule)))
		return
	}
	e.counts = true
	a.failed++
	if !v.failure() && c.job.Spec.Completions == nil && p.successes > 0 {
		e.note = say(normal(reason.NotReplaced, fmt.Sprintf(
			"Not replacing failed pod %s: another pod has succeeded, so that the work queue is taken to be done", e.pod.Name)))
	}
}

func say(n note) *note { return &n }

// of returns the pods that are accounted for as such.
func (a account) of(as outcome) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, e := range a.entries {
		if e.as == as {
			pods = append(pods, e.pod)
		}
	}
	return pods
}
