package job

import (
	"fmt"
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// verdict is how a Job ends, once that is certain. The zero verdict means that
// it goes on.
type verdict struct {
	target          batchv1.JobConditionType // SuccessCriteriaMet or FailureTarget
	reason, message string
}

func (v verdict) none() bool    { return v.target == "" }
func (v verdict) failure() bool { return v.target == batchv1.JobFailureTarget }

// final is the condition that follows the target's.
func (v verdict) final() batchv1.JobConditionType {
	if v.failure() {
		return batchv1.JobFailed
	}
	return batchv1.JobComplete
}

func fails(reason, message string) verdict {
	return verdict{batchv1.JobFailureTarget, reason, message}
}

// verdictOf finds whether the Job is over, what was found before first: a Job
// never changes its mind.
func verdictOf(now time.Time, c census, p progress) verdict {
	for _, target := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		if found := kind.JobCondition(&c.job.Status, target); found != nil {
			return verdict{target, found.Reason, found.Message}
		}
	}
	if v := failedByRule(c); !v.none() {
		return v
	}
	if pastBackoffLimit(c, p) {
		return fails(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if at, ok := deadline(now, c.job); ok && !at.After(now) {
		return fails(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if v := overByIndexes(c.job, p.index); !v.none() {
		return v
	}
	if p.enough(c.job) && leavesNone(c) {
		return verdict{batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"}
	}
	return verdict{}
}

// failedByRule: a failed pod matches a FailJob rule of podFailurePolicy. Pods that
// the Job itself gave up are not asked. Kubernetes asks those that it sees between
// their end and their removal, so that whether a Job survives its suspension can
// be a matter of luck.
func failedByRule(c census) verdict {
	policy := c.job.Spec.PodFailurePolicy
	if policy == nil {
		return verdict{}
	}
	for _, pods := range [][]*corev1.Pod{c.failed, c.void} {
		for _, pod := range pods {
			if f := judge(policy, pod); f.action == batchv1.PodFailurePolicyActionFailJob && pod.Status.Phase != corev1.PodSucceeded {
				return fails(batchv1.JobReasonPodFailurePolicy, f.message)
			}
		}
	}
	return verdict{}
}

// pastBackoffLimit: more pods failed than the Job is granted, or, where
// containers restart in their pod, they restarted as often.
func pastBackoffLimit(c census, p progress) bool {
	limit := backoffLimit(c.job)
	if p.failures > limit {
		return true
	}
	n := restartsOf(c)
	return n > 0 && n >= int64(limit)
}

func backoffLimit(job *batchv1.Job) int32 {
	if perIndex(job) && job.Spec.BackoffLimit == nil {
		return math.MaxInt32
	}
	return ptr.Deref(job.Spec.BackoffLimit, 6)
}

// restartsOf is how often containers were restarted in the pods that run, where
// that counts towards backoffLimit.
func restartsOf(c census) int64 {
	if c.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return 0
	}
	var n int64
	for _, pods := range [][]*corev1.Pod{c.active, c.terminating} {
		for _, pod := range pods {
			if pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodPending {
				n += int64(restarts(pod))
			}
		}
	}
	return n
}

// startTime is since when the Job runs: since now, if it has just begun; nil while
// it is suspended.
func startTime(now time.Time, job *batchv1.Job) *metav1.Time {
	if job.Status.StartTime == nil && !suspended(job) {
		return wholeSeconds(now)
	}
	return job.Status.StartTime
}

// deadline is when the Job fails for having taken too long, if it ever does.
func deadline(now time.Time, job *batchv1.Job) (at time.Time, ok bool) {
	seconds, start := job.Spec.ActiveDeadlineSeconds, startTime(now, job)
	if seconds == nil || start == nil || suspended(job) {
		return time.Time{}, false
	}
	return start.Add(kind.Seconds(*seconds)), true
}

// overByIndexes is what the indexes of an Indexed Job say of its end.
func overByIndexes(job *batchv1.Job, x indexes) verdict {
	if !indexed(job) {
		return verdict{}
	}
	if lost := x.lost.Len(); lost > 0 {
		if limit := job.Spec.MaxFailedIndexes; limit != nil && lost > *limit {
			return fails(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		}
		if lost+x.done.Len() >= completions(job) {
			return fails(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if rule, met := successRule(job.Spec.SuccessPolicy, x.done, completions(job)); met {
		return verdict{batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", rule)}
	}
	return verdict{}
}

// leavesNone: of a Job that has enough, no pod stays active. Those of a work queue
// finish what they have, and those of a Job that is being deleted are let go; all
// others are deleted, so many at a time.
func leavesNone(c census) bool {
	workQueue := c.job.Spec.Completions == nil
	if c.job.DeletionTimestamp != nil || workQueue && !suspended(c.job) {
		return len(c.active) == 0
	}
	return len(c.active) <= batch
}

// finished: the Job is over, and only its owner may still touch it.
func finished(job *batchv1.Job) bool { return kind.JobEnd(job) != nil }
