package sweep

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

// ExpiredJob deletes, in the foreground, a finished Job whose
// ttlSecondsAfterFinished is over, and asks to be woken when it will be.
func ExpiredJob(now time.Time, kinds Kinds, item Item) change.Set {
	var set change.Set
	job := item.Object.(*batchv1.Job)
	if job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return set
	}
	finished, ok := finishedAt(job)
	if !ok {
		return set
	}
	expires := finished.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
	if expires.After(now) {
		set.Wake(expires)
		return set
	}
	remove(&set, kinds, item, now, true)
	return set
}

// finishedAt is when the Job became Complete or Failed.
func finishedAt(job *batchv1.Job) (time.Time, bool) {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}
