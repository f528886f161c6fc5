package cron

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// plan is a schedule in a time zone, from a moment on: the slots after base.
type plan struct {
	base  time.Time
	zone  *time.Location
	every time.Duration // of "@every 90s", whose slots count from base
	spec  cron.Schedule // of all other schedules
}

// plan reads the schedule. Where that cannot be done it says why, and there is
// nothing to wait for.
func (d *decision) plan() (plan, bool) {
	spec := &d.CronJob.Spec
	base := d.since()
	zone := d.now.Location()
	if spec.TimeZone != nil {
		var err error
		if zone, err = time.LoadLocation(*spec.TimeZone); err != nil {
			d.complain("UnknownTimeZone", fmt.Sprintf("invalid timeZone: %q: %s", *spec.TimeZone, err))
			return plan{}, false
		}
	}
	p, err := newPlan(spec.Schedule, zone, base)
	if err != nil {
		d.complain("UnparseableSchedule", fmt.Sprintf("unparseable schedule: %q : %s", spec.Schedule, err))
		return plan{}, false
	}
	if strings.Contains(spec.Schedule, "TZ") {
		d.complain("UnsupportedSchedule", fmt.Sprintf("CRON_TZ or TZ used in schedule %q is not officially supported, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", spec.Schedule))
	}
	if p.next(p.base).IsZero() {
		d.complain("InvalidSchedule", fmt.Sprintf("invalid schedule: %s : time difference between two schedules is less than 1 second", spec.Schedule))
		return plan{}, false
	}
	return p, true
}

// newPlan reads a schedule.
func newPlan(schedule string, zone *time.Location, base time.Time) (plan, error) {
	parsed, err := kind.ParseSchedule(schedule)
	if err != nil {
		return plan{}, err
	}
	p := plan{base: base, zone: zone, spec: parsed}
	switch s := parsed.(type) {
	case cron.ConstantDelaySchedule:
		p.every = s.Delay
	case *cron.SpecSchedule:
		if s.Location != time.Local {
			p.zone = s.Location
		}
	}
	return p, nil
}

// complain says what is wrong with the schedule, whenever it is looked at, as
// Kubernetes does; but not of a CronJob that starts nothing anyway.
func (d *decision) complain(reason, message string) {
	if !d.suspended() {
		d.note(corev1.EventTypeWarning, reason, message)
	}
}

// since is the moment after which slots are owed. It takes note of a schedule
// that is new.
func (d *decision) since() time.Time {
	mark, now := scheduleMark(d.CronJob), d.now.UTC().Format(time.RFC3339)
	was, known := d.annotations[ScheduleAnnotation]
	switch changed, same := strings.CutPrefix(was, mark); {
	case !known:
		d.annotate(ScheduleAnnotation, mark)
	case !same, changed > now: // the latter if the clock was set back since
		d.annotate(ScheduleAnnotation, mark+now)
	}
	// No schedule is looked at further back than it is looked ahead.
	return later(owedSince(d.CronJob, d.annotations), d.now.AddDate(-5, 0, 0)).Truncate(time.Second)
}

// owedSince is the moment after which slots are owed: the last one that was
// started, or else the CronJob's creation; and not before the schedule was
// changed to what it is.
func owedSince(c *batchv1.CronJob, annotations map[string]string) time.Time {
	base := c.CreationTimestamp.Time
	if last := c.Status.LastScheduleTime; last != nil {
		base = last.Time
	}
	if changed, same := strings.CutPrefix(annotations[ScheduleAnnotation], scheduleMark(c)); same {
		if at, err := time.Parse(time.RFC3339, changed); err == nil {
			base = later(base, at)
		}
	}
	return base
}

// scheduleMark is what ScheduleAnnotation begins with while the schedule and
// its time zone are these.
func scheduleMark(c *batchv1.CronJob) string {
	return c.Spec.Schedule + "|" + ptr.Deref(c.Spec.TimeZone, "") + "|"
}

// next returns the first slot after t, in the zone; zero if there is none in
// the next five years.
func (p plan) next(t time.Time) time.Time {
	t = later(t, p.base).In(p.zone)
	if p.every == 0 {
		return p.spec.Next(t)
	}
	n := t.Sub(p.base) / p.every
	return p.base.In(p.zone).Add((n + 1) * p.every)
}

// last returns the most recent slot that is not after now.
func (p plan) last(now time.Time) (slot time.Time, due bool) {
	first := p.next(p.base)
	if first.After(now) || first.IsZero() {
		return time.Time{}, false
	}
	if p.every > 0 {
		return p.base.In(p.zone).Add(now.Sub(p.base) / p.every * p.every), true
	}
	// The slot after lo is not after now, the one after hi is.
	lo, hi := first.Add(-time.Second), now
	for step := time.Minute; ; step *= 4 {
		at := now.Add(-step)
		if !at.After(lo) {
			break
		}
		if p.dueAfter(at, now) {
			lo = at
			break
		}
		hi = at
	}
	for hi.Sub(lo) > time.Second {
		if mid := lo.Add(hi.Sub(lo) / 2); p.dueAfter(mid, now) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return p.next(lo), true
}

// dueAfter: there is a slot after t that is not after now.
func (p plan) dueAfter(t, now time.Time) bool {
	next := p.next(t)
	return !next.IsZero() && !next.After(now)
}

// between returns the first and last slot after from and before to, and how
// many there are: limit+1 if more than limit.
func (p plan) between(from, to time.Time, limit int) (first, last time.Time, n int) {
	from = later(from, p.base)
	for t := p.next(from); t.Before(to) && !t.IsZero(); t = p.next(t) {
		if n++; n == 1 {
			first = t
		}
		last = t
		if n > limit {
			last, _ = p.last(to.Add(-time.Second))
			break
		}
	}
	return first, last, n
}

// missed estimates, as Kubernetes does, how many slots have passed that might
// still be started: from the distance of the first two.
func (p plan) missed(deadline *int64, now time.Time) int64 {
	from := p.base
	if deadline != nil {
		from = later(from, now.Add(-time.Duration(*deadline)*time.Second))
	}
	first := p.next(from)
	second := p.next(first)
	step := int64(second.Sub(first).Round(time.Second).Seconds())
	if first.IsZero() || second.After(now) || step < 1 {
		return 0
	}
	return int64(now.Sub(first).Seconds())/step + 1
}

// leftOut is a slot that a clock that goes forward skips.
type leftOut struct {
	wall   time.Time // what the clock would have shown
	change time.Time // when it goes forward
}

// leftOut returns the first such slot of every change after from and not after
// to.
func (p plan) leftOut(from, to time.Time) []leftOut {
	var out []leftOut
	for {
		_, change := from.In(p.zone).ZoneBounds()
		if change.IsZero() || change.After(to) {
			return out
		}
		if wall, ok := p.leftOutAt(change); ok {
			out = append(out, leftOut{wall, change})
		}
		from = change
	}
}

// nextLeftOut is when the zone's clocks next skip a slot, if that is at their
// next change.
func (p plan) nextLeftOut(now time.Time) (time.Time, bool) {
	_, change := now.In(p.zone).ZoneBounds()
	if change.IsZero() {
		return time.Time{}, false
	}
	_, ok := p.leftOutAt(change)
	return change, ok
}

// leftOutAt returns the first slot that is lost at change.
func (p plan) leftOutAt(change time.Time) (time.Time, bool) {
	for t := range p.allLeftOutAt(change) {
		return t, true
	}
	return time.Time{}, false
}

// allLeftOutAt yields the slots that clocks which kept going at change would
// have shown before the others are where they jumped to. A slot that is due at
// that moment by the new time as well is not lost.
func (p plan) allLeftOutAt(change time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		if p.every > 0 {
			return
		}
		name, before := change.Add(-time.Second).In(p.zone).Zone()
		_, after := change.In(p.zone).Zone()
		old := plan{base: change.Add(-time.Second), zone: time.FixedZone(name, before), spec: inZone(p.spec)}
		end := change.Add(time.Duration(after-before) * time.Second)
		for t := old.next(old.base); !t.IsZero() && t.Before(end); t = old.next(t) {
			real := plan{base: t.Add(-time.Second), zone: p.zone, spec: p.spec}
			if !real.next(real.base).Equal(t) && !yield(t) {
				return
			}
		}
	}
}

// inZone returns a schedule that goes by the zone of the times that it is asked
// about.
func inZone(s cron.Schedule) cron.Schedule {
	if spec, ok := s.(*cron.SpecSchedule); ok && spec.Location != time.Local {
		free := *spec
		free.Location = time.Local
		return &free
	}
	return s
}
