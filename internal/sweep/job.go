package sweep

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// ExpiredJob deletes, in the foreground, a finished Job whose
// ttlSecondsAfterFinished is over, and asks to be woken when it will be.
func ExpiredJob(now time.Time, item Item) change.Set {
	var set change.Set
	job := item.Object.(*batchv1.Job)
	if job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return set
	}
	end := kind.JobEnd(job)
	if end == nil {
		return set
	}
	expires := end.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
	if expires.After(now) {
		set.Wake(expires)
		return set
	}
	remove(&set, item, now, true)
	return set
}
