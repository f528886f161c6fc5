package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
)

// journal returns the set that writes down on the Job, before any pod is released,
// which pods are going to be, and as what; it is empty when the Job says so already.
// It is for State.Stepwise: a pod that were released first could not be counted any
// more, and one that were counted first would be counted again. Once it is listed in
// status.uncountedTerminatedPods, or its index is in the status, both are safe, and
// the next decision does them.
func journal(now time.Time, s State, d decision) change.Set {
	st := s.Job.Status
	st.StartTime = startTime(now, s.Job)
	old := s.Job.Annotations[BackoffAnnotation]
	text := old
	if !perIndex(s.Job) && d.verdict.none() {
		text = parseStreak(old).after(d.account.counting(success), d.account.counting(failure), now).String()
	}
	if indexed(s.Job) {
		d.setIndexes(&st)
	}
	u := st.UncountedTerminatedPods.DeepCopy()
	if u == nil {
		u = &batchv1.UncountedTerminatedPods{}
	}
	succeeded, failed := len(u.Succeeded), len(u.Failed)
	if !indexed(s.Job) {
		u.Succeeded = list(u.Succeeded, d.account.counting(success))
	}
	u.Failed = list(list(u.Failed, d.account.counting(failure)), d.account.counting(lostFailure))
	same := succeeded == len(u.Succeeded) && failed == len(u.Failed)
	if same && st.CompletedIndexes == s.Job.Status.CompletedIndexes && st.FailedIndexes == s.Job.Status.FailedIndexes {
		return change.Set{}
	}
	st.UncountedTerminatedPods = u
	if v := d.verdict; !v.none() { // what is listed rests on it: it must not be another next time
		setCondition(&st, now, v.target, corev1.ConditionTrue, v.reason, v.message)
	}
	w := writer{now: now, s: s}
	w.update(&st, old, text)
	return w.set
}

// list adds the pods that are not listed.
func list(uids []types.UID, pods []*corev1.Pod) []types.UID {
	for _, pod := range pods {
		if !slices.Contains(uids, pod.UID) {
			uids = append(uids, pod.UID)
		}
	}
	return uids
}

// counting returns the pods that are counted as such.
func (a account) counting(as outcome) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, e := range a.entries {
		if e.as == as && e.counts {
			pods = append(pods, e.pod)
		}
	}
	return pods
}
