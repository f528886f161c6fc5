package job

import (
	"fmt"
	"math"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
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

// verdict finds whether the Job is over, what was found before first: a Job
// never changes its mind.
func (d *decision) verdict() verdict {
	for _, target := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		if c := kind.JobCondition(&d.Job.Status, target); c != nil {
			return verdict{target, c.Reason, c.Message}
		}
	}
	if v := d.failedByRule(); !v.none() {
		return v
	}
	if d.pastBackoffLimit() {
		return fails(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if d.pastDeadline() {
		return fails(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if !d.indexed {
		return verdict{}
	}
	if lost := d.lost.Len(); lost > 0 {
		if limit := d.Job.Spec.MaxFailedIndexes; limit != nil && lost > *limit {
			return fails(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		}
		if lost+d.successes >= d.completions {
			return fails(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if rule, met := successRule(d.Job.Spec.SuccessPolicy, d.done, d.completions); met {
		return verdict{batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", rule)}
	}
	return verdict{}
}

// failedByRule: a failed pod matches a FailJob rule of podFailurePolicy. Pods that
// the Job itself gave up are not asked. Kubernetes asks those that it sees between
// their end and their removal, so that whether a Job survives its suspension can
// be a matter of luck.
func (d *decision) failedByRule() verdict {
	policy := d.Job.Spec.PodFailurePolicy
	if policy == nil {
		return verdict{}
	}
	for _, pods := range [][]*corev1.Pod{d.failed, d.strays} {
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
func (d *decision) pastBackoffLimit() bool {
	limit := ptr.Deref(d.Job.Spec.BackoffLimit, 6)
	if d.perIndex && d.Job.Spec.BackoffLimit == nil {
		limit = math.MaxInt32
	}
	if d.failures > limit {
		return true
	}
	if d.Job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var n int64
	for _, pods := range [][]*corev1.Pod{d.active, d.terminating} {
		for _, pod := range pods {
			if pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodPending {
				n += int64(restarts(pod))
			}
		}
	}
	return n > 0 && n >= int64(limit)
}

// pastDeadline also asks to be woken at the deadline.
func (d *decision) pastDeadline() bool {
	seconds, start := d.Job.Spec.ActiveDeadlineSeconds, d.status.StartTime
	if seconds == nil || start == nil || suspended(d.Job) {
		return false
	}
	at := start.Add(time.Duration(*seconds) * time.Second)
	if at.After(d.now) {
		d.set.Wake(at)
		return false
	}
	return true
}

// complete: the Job has what it was made for, and nothing runs any more.
func (d *decision) complete() verdict {
	enough := d.successes >= d.completions
	if d.Job.Spec.Completions == nil {
		enough = d.successes > 0
	}
	if !enough || d.activeAfter() > 0 {
		return verdict{}
	}
	return verdict{batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"}
}

// activeAfter is how many pods are active when the set is applied.
func (d *decision) activeAfter() int32 {
	return int32(len(d.active)-len(d.removed)) + d.started
}

// suspension keeps the Suspended condition. A Job that resumes starts anew as
// far as its deadline is concerned.
func (d *decision) suspension() {
	if d.Job.DeletionTimestamp != nil {
		return
	}
	if suspended(d.Job) {
		d.status.StartTime = nil
		if d.setCondition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
			d.note(corev1.EventTypeNormal, "Suspended", "Job suspended")
		}
	} else if d.setCondition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed") {
		d.note(corev1.EventTypeNormal, "Resumed", "Job resumed")
		d.status.StartTime = &d.second
	}
}

// setCondition reports whether it changed anything. A condition that never was
// True does not become False.
func (d *decision) setCondition(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) bool {
	next := batchv1.JobCondition{
		Type: t, Status: status, Reason: reason, Message: message,
		LastProbeTime: d.second, LastTransitionTime: d.second,
	}
	list := d.status.Conditions
	i := slices.IndexFunc(list, func(c batchv1.JobCondition) bool { return c.Type == t })
	switch {
	case i < 0 && status == corev1.ConditionFalse:
		return false
	case i < 0:
		d.status.Conditions = append(slices.Clip(list), next)
		return true
	case list[i].Status == status && list[i].Reason == reason && list[i].Message == message:
		return false
	}
	d.status.Conditions = slices.Clone(list)
	d.status.Conditions[i] = next
	return true
}

// finished: the Job is over, and only its owner may still touch it.
func finished(job *batchv1.Job) bool { return kind.JobEnd(job) != nil }
