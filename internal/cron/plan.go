package cron

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/reason"
)

// plan is what is done about the slots now.
type plan struct {
	slot      time.Time      // the slot that is started; zero if none is
	job       *batchv1.Job   // the Job that is created for it; nil if it is there already
	replaced  []*batchv1.Job // Jobs that go so that it can start
	active    []corev1.ObjectReference
	missed    []note // of slots before the one that is due
	notes     []note // why it is not started, and what no clock shows
	explained time.Time
	wakeAt    time.Time
}

// planOf goes by the schedule, and sleeps until the next slot.
func planOf(now time.Time, s State, c census, r reading) plan {
	p := plan{active: c.active}
	p.explained, _ = time.Parse(time.RFC3339, s.CronJob.Annotations[ExplainedAnnotation])
	if !r.ok {
		return p
	}
	p.wakeAt = r.slots.next(now)
	if limit := later(r.slots.base, now); p.explained.After(limit) {
		p.explained = limit // what was explained before the clock was set back comes again
	}
	untold := later(r.slots.base, p.explained)
	if slot, due := r.slots.last(now); due {
		p.due(now, s, c, r.slots, slot)
	} else {
		p.clockSetBack(now, r.slots)
	}
	p.skippedByZone(now, r.slots, untold)
	return p
}

// due starts the most recent slot, or explains why not.
func (p *plan) due(now time.Time, s State, c census, all slots, slot time.Time) {
	if isSuspended(s.CronJob) {
		p.explain(slot, normal(reason.CronJobSuspended, "Not starting job because the CronJob is suspended"))
		return
	}
	p.missedBefore(now, s.CronJob, all, slot)
	name := jobName(s.CronJob, slot)
	switch hindranceOf(now, s.CronJob, p.active, slot) {
	case TooLate:
		p.explain(slot, warning(reason.MissSchedule, "Missed scheduled time to start a job: "+slot.UTC().Format(time.RFC1123Z)))
	case SameMinute:
		p.explain(slot, normal(reason.JobAlreadyExists, "Not starting job because the one of this minute is running: "+name))
	case Forbidden:
		p.explain(slot, normal(reason.JobAlreadyActive, "Not starting job because prior execution is running and concurrency policy is Forbid"))
	case Unhindered:
		if s.Namespace.DeletionTimestamp == nil {
			p.start(s, c, slot, name)
		}
	}
}

// start makes the Job of a slot; with Replace in place of those that run.
func (p *plan) start(s State, c census, slot time.Time, name string) {
	if s.CronJob.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, ref := range p.active {
			if job := s.Job(ref.Name); !has(p.replaced, job.UID) { // the census dropped those that are gone
				p.replaced = append(p.replaced, job)
			}
		}
		p.active = nil
	}
	switch job := s.Job(name); {
	case job != nil && metav1.IsControlledBy(job, s.CronJob) && !has(c.expired, job.UID):
		// It counts as the slot's, ended or not: slots of one minute share a name.
		p.started(slot, job)
	case job != nil:
		p.explain(slot, warning(reason.JobAlreadyExists, "Not starting job because there is one of that name: "+name))
	case s.Refused != nil: // not all of a template is checked before
		p.explain(slot, warning(reason.FailedCreate, "Error creating job: "+s.Refused.Error()))
	default:
		p.job = jobOf(s, slot, name)
		p.started(slot, p.job)
	}
}

// started takes note that a slot has its Job.
func (p *plan) started(slot time.Time, job *batchv1.Job) {
	p.slot = slot
	p.active = append(slices.Clip(p.active), corev1.ObjectReference{
		APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: job.Name, UID: job.UID,
	})
}

// explain says once why a slot is not started.
func (p *plan) explain(slot time.Time, n note) {
	if slot.After(p.explained) {
		p.notes, p.explained = append(p.notes, n), slot
	}
}

// missedBefore explains the slots before the one that is due: nobody was there
// to start them, and they are not made up for.
func (p *plan) missedBefore(now time.Time, c *batchv1.CronJob, all slots, slot time.Time) {
	if n := all.missed(c.Spec.StartingDeadlineSeconds, now); n > 100 && slot.After(p.explained) {
		p.missed = append(p.missed, warning(reason.TooManyMissedTimes,
			"too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"))
	}
	const limit = 100
	first, last, n := all.between(p.explained, slot, limit)
	if n == 0 {
		return
	}
	message := "Missed scheduled time to start a job: " + first.UTC().Format(time.RFC1123Z)
	if n > 1 {
		count := fmt.Sprint(n)
		if n > limit {
			count = fmt.Sprintf("more than %d", limit)
		}
		message = fmt.Sprintf("Missed %s scheduled times to start a job: %s to %s", count, first.UTC().Format(time.RFC1123Z), last.UTC().Format(time.RFC1123Z))
	}
	p.missed, p.explained = append(p.missed, warning(reason.MissSchedule, message)), last
}

// clockSetBack explains why nothing is due for longer than the schedule says:
// slots up to lastScheduleTime have been started, and never are again.
func (p *plan) clockSetBack(now time.Time, all slots) {
	if !all.base.After(now.Add(time.Second)) {
		return
	}
	p.explain(all.base, warning(reason.ClockSetBack, fmt.Sprintf(
		"Not starting jobs before %s: slots up to then were dealt with before the clock was set back", all.base.UTC().Format(time.RFC1123Z))))
}

// skippedByZone explains the slots that fell into an hour that the clocks of
// the time zone left out, from untold on.
func (p *plan) skippedByZone(now time.Time, all slots, untold time.Time) {
	for _, at := range all.leftOut(untold, now) {
		p.notes = append(p.notes, warning(reason.MissSchedule,
			fmt.Sprintf("Missed scheduled time to start a job: %s does not exist in time zone %s, whose clocks go forward at %s",
				at.wall.Format("2006-01-02 15:04"), all.zone, at.change.UTC().Format(time.RFC1123Z))))
		p.explained = later(p.explained, at.change)
	}
	if at, ok := all.nextLeftOut(now); ok && (p.wakeAt.IsZero() || at.Before(p.wakeAt)) {
		p.wakeAt = at
	}
}
