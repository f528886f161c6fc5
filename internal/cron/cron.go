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
// Order of a decision: Jobs beyond the history limits go; Jobs that ended or
// vanished leave status.active; then the most recent slot is started, or it is
// said why not; then it sleeps until the next one.
//
// It differs from Kubernetes on purpose in this:
//   - Kubernetes' estimate of the most recent slot assumes that slots are evenly
//     spaced, so that after a downtime it may start none ("0 9-17 * * *", at
//     night), or with startingDeadlineSeconds shorter than the interval of an
//     "@every" none ever. Here it is the most recent slot, always.
//   - Kubernetes does not start slots that a changed schedule would have had
//     before the change, unless something else makes it look at the CronJob
//     before the next slot. Here it never does.
//   - A Job that has the name of a slot's Job already makes Kubernetes try again
//     and again, ever less often, so that the slots after it may be late too.
//     Here it looks again when that Job is gone.
//   - The references in status.active have no resourceVersion: they are written
//     in the commit that creates the Job.
package cron

import (
	"fmt"
	"maps"
	"slices"
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
	// JobKind is the row of Jobs: what a new one gets from the API, and how a
	// deletion begins.
	JobKind *kind.Kind
	// UID is what a Job that this decision creates is given.
	UID types.UID
}

// decision is one Decide under way.
type decision struct {
	State
	now         time.Time
	set         change.Set
	status      batchv1.CronJobStatus // the next one; shares what does not change
	annotations map[string]string     // the next ones, likewise
	active      []corev1.ObjectReference
	explained   time.Time // slots up to here need no word
	changed     bool      // the CronJob is to be written
}

// Decide returns what is to be done about a CronJob now. The set is empty when
// nothing is; it wakes at the next slot. Without spec.timeZone the schedule is
// read in now's time zone.
func Decide(now time.Time, s State) change.Set {
	d := &decision{State: s, now: now, status: s.CronJob.Status, annotations: s.CronJob.Annotations}
	d.active = slices.Clone(d.status.Active)
	d.explained, _ = time.Parse(time.RFC3339, d.annotations[ExplainedAnnotation])
	d.history()
	d.bookkeeping()
	if s.CronJob.DeletionTimestamp == nil {
		if p, ok := d.plan(); ok {
			d.follow(p)
		}
	}
	d.unexpected()
	d.write()
	return d.set
}

// follow goes by the schedule, and sleeps until the next slot.
func (d *decision) follow(p plan) {
	d.set.Wake(p.next(d.now))
	if limit := later(p.base, d.now); d.explained.After(limit) {
		d.explained = limit // what was explained before the clock was set back comes again
	}
	untold := later(p.base, d.explained)
	if slot, due := p.last(d.now); due {
		d.slot(p, slot)
	} else {
		d.clockSetBack(p)
	}
	d.skippedByZone(p, untold)
}

// slot starts the most recent slot, or explains why not.
func (d *decision) slot(p plan, slot time.Time) {
	if !d.suspended() {
		d.missedBefore(p, slot)
	}
	name := jobName(d.CronJob, slot)
	switch {
	case d.suspended():
		d.explain(slot, corev1.EventTypeNormal, "CronJobSuspended", "Not starting job because the CronJob is suspended")
	case d.tooLate(slot):
		d.explain(slot, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: "+slot.UTC().Format(time.RFC1123Z))
	case slices.ContainsFunc(d.active, func(r corev1.ObjectReference) bool { return r.Name == name }):
		d.explain(slot, corev1.EventTypeNormal, "JobAlreadyExists", "Not starting job because the one of this minute is running: "+name)
	case d.CronJob.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(d.active) > 0:
		d.explain(slot, corev1.EventTypeNormal, "JobAlreadyActive",
			"Not starting job because prior execution is running and concurrency policy is Forbid")
	case d.Namespace.DeletionTimestamp == nil:
		d.start(slot, name)
	}
}

func (d *decision) suspended() bool { return ptr.Deref(d.CronJob.Spec.Suspend, false) }

func (d *decision) tooLate(slot time.Time) bool {
	deadline, has := Deadline(d.CronJob, slot)
	return has && !deadline.After(d.now)
}

// Deadline returns from when on it is too late to start a slot, if there is such
// a time.
func Deadline(c *batchv1.CronJob, slot time.Time) (_ time.Time, has bool) {
	seconds := c.Spec.StartingDeadlineSeconds
	if seconds == nil {
		return time.Time{}, false
	}
	return slot.Add(time.Duration(*seconds) * time.Second), true
}

// explain says once why a slot is not started.
func (d *decision) explain(slot time.Time, eventType, reason, message string) {
	if slot.After(d.explained) {
		d.note(eventType, reason, message)
		d.explained = slot
	}
}

// missedBefore explains the slots before the one that is due: nobody was there
// to start them, and they are not made up for.
func (d *decision) missedBefore(p plan, slot time.Time) {
	if n := p.missed(d.CronJob.Spec.StartingDeadlineSeconds, d.now); n > 100 && slot.After(d.explained) {
		d.note(corev1.EventTypeWarning, "TooManyMissedTimes",
			"too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	const limit = 100
	first, last, n := p.between(d.explained, slot, limit)
	switch {
	case n == 0:
		return
	case n == 1:
		d.note(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: "+first.UTC().Format(time.RFC1123Z))
	default:
		count := fmt.Sprint(n)
		if n > limit {
			count = fmt.Sprintf("more than %d", limit)
		}
		d.note(corev1.EventTypeWarning, "MissSchedule", fmt.Sprintf("Missed %s scheduled times to start a job: %s to %s",
			count, first.UTC().Format(time.RFC1123Z), last.UTC().Format(time.RFC1123Z)))
	}
	d.explained = last
}

// clockSetBack explains why nothing is due for longer than the schedule says:
// slots up to lastScheduleTime have been started, and never are again.
func (d *decision) clockSetBack(p plan) {
	if !p.base.After(d.now.Add(time.Second)) {
		return
	}
	d.explain(p.base, corev1.EventTypeWarning, "ClockSetBack", fmt.Sprintf(
		"Not starting jobs before %s: slots up to then were dealt with before the clock was set back", p.base.UTC().Format(time.RFC1123Z)))
}

// skippedByZone explains the slots that fell into an hour that the clocks of
// the time zone left out, from untold on.
func (d *decision) skippedByZone(p plan, untold time.Time) {
	for _, at := range p.leftOut(untold, d.now) {
		d.note(corev1.EventTypeWarning, "MissSchedule",
			fmt.Sprintf("Missed scheduled time to start a job: %s does not exist in time zone %s, whose clocks go forward at %s",
				at.wall.Format("2006-01-02 15:04"), p.zone, at.change.UTC().Format(time.RFC1123Z)))
		d.explained = later(d.explained, at.change)
	}
	if at, ok := p.nextLeftOut(d.now); ok {
		d.set.Wake(at)
	}
}

// annotate sets an annotation of the CronJob; "" removes it.
func (d *decision) annotate(key, value string) {
	if d.annotations[key] == value {
		return
	}
	next := maps.Clone(d.annotations)
	if next == nil {
		next = make(map[string]string)
	}
	next[key] = value
	if value == "" {
		delete(next, key)
	}
	d.annotations, d.changed = next, true
}

// write adds the CronJob's new state to the set, if it is one.
func (d *decision) write() {
	switch last := d.status.LastScheduleTime; {
	case d.explained.IsZero() || last != nil && d.explained.Before(last.Time):
		d.annotate(ExplainedAnnotation, "")
	default:
		d.annotate(ExplainedAnnotation, d.explained.UTC().Format(time.RFC3339))
	}
	if !slices.Equal(d.active, d.status.Active) {
		d.status.Active, d.changed = d.active, true
	}
	rev, key := change.RevOf(d.CronJob), cronKey(d.CronJob)
	if !d.changed {
		if len(d.set.Writes) > 0 {
			d.set.Guards = append(d.set.Guards, change.Guard{Key: key, Rev: rev})
		}
		return
	}
	next := *d.CronJob
	next.Status, next.Annotations = d.status, d.annotations
	d.set.Update(key, rev, &next)
}

// note leaves an event about the CronJob.
func (d *decision) note(eventType, reason, message string) {
	c := d.CronJob
	d.set.Note(change.Note{
		Regarding: corev1.ObjectReference{
			APIVersion: "batch/v1", Kind: "CronJob", Namespace: c.Namespace, Name: c.Name,
			UID: c.UID, ResourceVersion: c.ResourceVersion,
		},
		Component: Component, Type: eventType, Reason: reason, Message: message,
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
