package cron

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// slots is a schedule in a time zone, from a moment on: the slots after base.
type slots struct {
	base  time.Time
	zone  *time.Location
	every time.Duration // of "@every 90s", whose slots count from base
	spec  cron.Schedule // of all other schedules; it goes by the zone of the times that it is asked about
}

// of returns the time zone of a spec; one that names none is read in local.
func (z Zones) of(spec *batchv1.CronJobSpec, local *time.Location) (*time.Location, error) {
	if spec.TimeZone == nil {
		return local, nil
	}
	return z(*spec.TimeZone)
}

// slots reads a schedule, which may name its time zone itself: those of CronJobs that
// are old enough do ("TZ=Asia/Seoul 0 5 * * *").
func (z Zones) slots(schedule string, zone *time.Location, base time.Time) (slots, error) {
	if name, rest, own := ownZone(schedule); own {
		var err error
		if zone, err = z(name); err != nil {
			return slots{}, fmt.Errorf("provided bad location %s: %w", name, err)
		}
		schedule = rest
	}
	return newSlots(schedule, zone, base)
}

// newSlots reads a schedule that names no time zone.
func newSlots(schedule string, zone *time.Location, base time.Time) (slots, error) {
	if _, _, own := ownZone(schedule); own {
		return slots{}, fmt.Errorf("a time zone has no place here: %q", schedule) // the parser would read it from the disk
	}
	parsed, err := kind.ParseSchedule(schedule)
	if err != nil {
		return slots{}, err
	}
	p := slots{base: base, zone: zone, spec: parsed}
	if s, constant := parsed.(cron.ConstantDelaySchedule); constant {
		p.every = s.Delay
	}
	return p, nil
}

// ownZone takes the time zone that a schedule names off it.
func ownZone(schedule string) (name, rest string, own bool) {
	for _, prefix := range []string{"TZ=", "CRON_TZ="} {
		if named, ok := strings.CutPrefix(schedule, prefix); ok {
			name, rest, _ = strings.Cut(named, " ")
			return name, strings.TrimSpace(rest), true
		}
	}
	return "", schedule, false
}

// owedSince is the moment after which slots are owed: the last one that was
// started, or else the CronJob's creation; and not before the schedule was
// changed to what it is, by mark, the value of ScheduleAnnotation.
func owedSince(c *batchv1.CronJob, mark string) time.Time {
	base := c.CreationTimestamp.Time
	if last := c.Status.LastScheduleTime; last != nil {
		base = last.Time
	}
	if changed, same := strings.CutPrefix(mark, scheduleMark(c)); same {
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
func (p slots) next(t time.Time) time.Time {
	t = later(t, p.base).In(p.zone)
	if p.every == 0 {
		return p.spec.Next(t)
	}
	n := t.Sub(p.base) / p.every
	return p.base.In(p.zone).Add((n + 1) * p.every)
}

// last returns the most recent slot that is not after now.
func (p slots) last(now time.Time) (slot time.Time, due bool) {
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
func (p slots) dueAfter(t, now time.Time) bool {
	next := p.next(t)
	return !next.IsZero() && !next.After(now)
}

// between returns the first and last slot after from and before to, and how
// many there are: limit+1 if more than limit.
func (p slots) between(from, to time.Time, limit int) (first, last time.Time, n int) {
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
func (p slots) missed(deadline *int64, now time.Time) int64 {
	from := p.base
	if deadline != nil {
		from = later(from, now.Add(-within(*deadline)))
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
func (p slots) leftOut(from, to time.Time) []leftOut {
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
func (p slots) nextLeftOut(now time.Time) (time.Time, bool) {
	_, change := now.In(p.zone).ZoneBounds()
	if change.IsZero() {
		return time.Time{}, false
	}
	_, ok := p.leftOutAt(change)
	return change, ok
}

// leftOutAt returns the first slot that is lost at change.
func (p slots) leftOutAt(change time.Time) (time.Time, bool) {
	for t := range p.allLeftOutAt(change) {
		return t, true
	}
	return time.Time{}, false
}

// allLeftOutAt yields the slots that clocks which kept going at change would
// have shown before the others are where they jumped to. A slot that is due at
// that moment by the new time as well is not lost.
func (p slots) allLeftOutAt(change time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		if p.every > 0 {
			return
		}
		name, before := change.Add(-time.Second).In(p.zone).Zone()
		_, after := change.In(p.zone).Zone()
		old := slots{base: change.Add(-time.Second), zone: time.FixedZone(name, before), spec: p.spec}
		end := change.Add(time.Duration(after-before) * time.Second)
		for t := old.next(old.base); !t.IsZero() && t.Before(end); t = old.next(t) {
			real := slots{base: t.Add(-time.Second), zone: p.zone, spec: p.spec}
			if !real.next(real.base).Equal(t) && !yield(t) {
				return
			}
		}
	}
}
