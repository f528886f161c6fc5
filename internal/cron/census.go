package cron

import (
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// census is the CronJob's Jobs, by what they are to it.
type census struct {
	expired     []*batchv1.Job           // finished, and beyond the history limits
	active      []corev1.ObjectReference // what is left of status.active
	left        []note                   // why the rest is not: it has ended, or is gone
	unexpected  []*batchv1.Job           // run for the CronJob, but were started by somebody else
	lastSuccess *metav1.Time             // of Jobs that were started by hand, too
}

// note is what an event about the CronJob says.
type note struct{ eventType, reason, message string }

func normal(reason, message string) note { return note{corev1.EventTypeNormal, reason, message} }
func warning(reason, message string) note {
	return note{corev1.EventTypeWarning, reason, message}
}

func takeCensus(s State) census {
	st, spec := &s.CronJob.Status, &s.CronJob.Spec
	c := census{lastSuccess: st.LastSuccessfulTime}
	c.expired = append(beyond(spec.SuccessfulJobsHistoryLimit, s.Jobs, batchv1.JobComplete),
		beyond(spec.FailedJobsHistoryLimit, s.Jobs, batchv1.JobFailed)...)
	c.active, c.left = stillActive(s, c.expired)
	for _, job := range s.Jobs {
		known := slices.ContainsFunc(st.Active, func(r corev1.ObjectReference) bool { return r.UID == job.UID })
		if !known && finished(job) == "" {
			c.unexpected = append(c.unexpected, job)
		}
		end := job.Status.CompletionTime
		if end != nil && finished(job) == batchv1.JobComplete && (c.lastSuccess == nil || end.After(c.lastSuccess.Time)) {
			c.lastSuccess = end
		}
	}
	return c
}

// beyond returns the oldest Jobs that ended in one way, so that limit are left.
func beyond(limit *int32, jobs []*batchv1.Job, end batchv1.JobConditionType) []*batchv1.Job {
	if limit == nil {
		return nil
	}
	var ended []*batchv1.Job
	for _, job := range jobs {
		if finished(job) == end {
			ended = append(ended, job)
		}
	}
	slices.SortFunc(ended, byStart)
	return ended[:max(0, len(ended)-int(*limit))]
}

// byStart orders Jobs by when they started, those that never did last.
func byStart(a, b *batchv1.Job) int {
	switch x, y := a.Status.StartTime, b.Status.StartTime; {
	case x == nil && y != nil:
		return 1
	case x != nil && y == nil:
		return -1
	case x.Equal(y):
		return strings.Compare(a.Name, b.Name)
	case x.Before(y):
		return -1
	}
	return 1
}

// stillActive returns status.active without the Jobs that have ended or are gone,
// and what there is to say of these.
func stillActive(s State, expired []*batchv1.Job) ([]corev1.ObjectReference, []note) {
	listed := without(s.CronJob.Status.Active, func(uid types.UID) bool { return has(expired, uid) })
	var notes []note
	over := make(map[types.UID]bool)
	for _, ref := range listed {
		job := s.Job(ref.Name)
		switch {
		case job == nil:
			notes = append(notes, normal(reason.MissingJob, "Active job went missing: "+ref.Name))
		case job.UID == ref.UID && metav1.IsControlledBy(job, s.CronJob) && finished(job) != "":
			notes = append(notes, normal(reason.SawCompletedJob, "Saw completed job: "+job.Name+", condition: "+string(finished(job))))
		default:
			// A Job that is not the CronJob's any more stays, as in Kubernetes, as
			// long as there is one of that name.
			continue
		}
		over[ref.UID] = true
	}
	return without(listed, func(uid types.UID) bool { return over[uid] }), notes
}

// without shares refs if nothing is dropped.
func without(refs []corev1.ObjectReference, drop func(types.UID) bool) []corev1.ObjectReference {
	if !slices.ContainsFunc(refs, func(r corev1.ObjectReference) bool { return drop(r.UID) }) {
		return refs
	}
	return slices.DeleteFunc(slices.Clone(refs), func(r corev1.ObjectReference) bool { return drop(r.UID) })
}

func has(jobs []*batchv1.Job, uid types.UID) bool {
	return slices.ContainsFunc(jobs, func(j *batchv1.Job) bool { return j.UID == uid })
}

// finished returns Complete or Failed when the Job is, else "".
func finished(job *batchv1.Job) batchv1.JobConditionType {
	if end := kind.JobEnd(job); end != nil {
		return end.Type
	}
	return ""
}
