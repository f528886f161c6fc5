// Package cron is the core of batch/v1 CronJobs: everything that Kubernetes'
// CronJob controller decides, as one pure function of a CronJob, its Jobs and
// the time.
//
// A slot is a moment at which the schedule says that a Job is due. Only the
// most recent slot is ever owed: one run makes up for any downtime, however
// long. A slot is started at most once, because the name of its Job derives
// from it and because the CronJob remembers it as status.lastScheduleTime, both
// in one commit.
//
// A slot that is not started is explained by one event. That a slot has been
// explained, and from when on the present schedule counts, is written on the
// CronJob itself (see ExplainedAnnotation and ScheduleAnnotation), so that
// nothing has to be remembered between two decisions.
//
// A decision is a chain of values, each made of those before it and never changed
// after:
//
//	census   the Jobs, by what they are to the CronJob: beyond the history limits, ended, running
//	reading  the schedule, and since when its slots are owed
//	plan     which slot is started, or why it is not, and until when there is nothing to do
//	set      the writes and notes that carry all of it out
//
// It differs from Kubernetes on purpose in this:
//   - Kubernetes' estimate of the most recent slot assumes that slots are evenly
//     spaced, so that after a downtime it may start none ("0 9-17 * * *", at
//     night), or with startingDeadlineSeconds shorter than the interval of an
//     "@every" none ever. Here it is the most recent slot, always.
//   - Kubernetes does not start slots that a changed schedule would have had
//     before the change, unless something else makes it look at the CronJob
//     before the next slot. Here it never does.
//   - When somebody else's Job has the name of a slot's, Kubernetes forgets to look
//     at the CronJob again, even at the next slot, until it or one of its Jobs
//     changes. Here the next slot is started as any.
//   - The references in status.active have no resourceVersion: they are written
//     in the commit that creates the Job.
package cron

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Component is the name under which decisions about CronJobs are reported.
const Component = "cronjob-controller"

const (
	// ScheduleAnnotation keeps the schedule that was last looked at, its time
	// zone, and when that was found changed, if it ever was:
	// "0 5 * * *|Asia/Seoul|<RFC 3339>". Slots that a changed schedule would have
	// had before are not owed.
	ScheduleAnnotation = kind.CronJobSchedule
	// ExplainedAnnotation keeps up to when slots that were not started have been
	// explained by an event (RFC 3339).
	ExplainedAnnotation = kind.CronJobExplained
)

// Zones finds a time zone by its name, as time.LoadLocation does: that one reads
// the disk, which a decision does not.
type Zones func(name string) (*time.Location, error)

// State is what Decide reads. Nothing in it is modified or kept.
type State struct {
	// CronJob is the CronJob as read; its resourceVersion guards the decision.
	CronJob *batchv1.CronJob
	// Jobs holds every Job that the CronJob controls, in any order.
	Jobs []*batchv1.Job
	// Job returns the Job of that name in the CronJob's namespace, nil if there
	// is none.
	Job func(name string) *batchv1.Job
	// Namespace is the CronJob's; nothing is created in it once its deletion has
	// begun.
	Namespace *corev1.Namespace
	// JobKind is the row of Jobs: how a deletion begins.
	JobKind *kind.Kind
	// Zones finds the time zone that the schedule is read in.
	Zones Zones
	// UID is what a Job that this decision creates is given.
	UID types.UID
	// Refused is why the API does not take the Job that this very decision would
	// create otherwise; nil if it does, as far as is known.
	Refused error
}

// Decide returns what is to be done about a CronJob now. The set is empty when
// nothing is; it wakes at the next slot. Without spec.timeZone the schedule is
// read in now's time zone.
func Decide(now time.Time, s State) change.Set {
	c := takeCensus(s)
	r := read(now, s.CronJob, s.Zones)
	p := planOf(now, s, c, r)
	return write(now, s, c, r, p)
}

func isSuspended(c *batchv1.CronJob) bool { return ptr.Deref(c.Spec.Suspend, false) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
