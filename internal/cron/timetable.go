package cron

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

// Timetable is when a schedule is due, for those who only want to know.
type Timetable struct{ p slots }

// NewTimetable reads a schedule as spec.schedule of a new CronJob is read, in a time
// zone. The slots of "@every 90s" count from from.
func NewTimetable(schedule string, zone *time.Location, from time.Time) (Timetable, error) {
	p, err := newSlots(schedule, zone, from.Truncate(time.Second))
	return Timetable{p}, err
}

// TimetableOf returns the slots that a CronJob still owes, or will: those after
// the last one that was started, or its creation, and not before its schedule
// became what it is. zone is the one that a schedule without spec.timeZone is
// read in.
func TimetableOf(c *batchv1.CronJob, zones Zones, zone *time.Location) (Timetable, error) {
	zone, err := zones.of(&c.Spec, zone)
	if err != nil {
		return Timetable{}, err
	}
	p, err := zones.slots(c.Spec.Schedule, zone, owedSince(c, c.Annotations[ScheduleAnnotation]).Truncate(time.Second))
	return Timetable{p}, err
}

// Zone is the time zone that the schedule is read in.
func (t Timetable) Zone() *time.Location { return t.p.zone }

// Next returns the first slot after a moment; zero if none follows within five
// years.
func (t Timetable) Next(after time.Time) time.Time { return t.p.next(after) }

// Last returns the most recent slot up to now that is still owed, if any is.
func (t Timetable) Last(now time.Time) (time.Time, bool) { return t.p.last(now) }

// Entry is a line of a timetable: a slot, or slots that the clocks leave out.
type Entry struct {
	// Time is when the slot is due; for slots that are left out, when the clocks
	// of the zone go forward.
	Time time.Time
	// Repeat: the clocks of the zone went back, and show for the second time
	// what they showed when the schedule was due before.
	Repeat bool
	// LeftOut holds what the clocks would have shown at slots that do not exist,
	// because they go forward past them. Nothing is due then.
	LeftOut []time.Time
}

// Upcoming returns the next n slots after a moment, with what the clocks leave
// out before the last of them. There are fewer than n if no further one follows
// within five years.
func (t Timetable) Upcoming(after time.Time, n int) []Entry {
	var all []Entry
	at := later(after, t.p.base)
	for n > 0 {
		slot := t.p.next(at)
		if slot.IsZero() {
			break
		}
		all = append(all, t.leftOut(at, slot)...)
		all = append(all, Entry{Time: slot, Repeat: t.repeats(slot)})
		at = slot
		n--
	}
	return all
}

// leftOut returns the slots that do not exist, after from and up to to.
func (t Timetable) leftOut(from, to time.Time) []Entry {
	var all []Entry
	for {
		_, change := from.In(t.p.zone).ZoneBounds()
		if change.IsZero() || change.After(to) {
			return all
		}
		e := Entry{Time: change.In(t.p.zone)}
		for wall := range t.p.allLeftOutAt(change) {
			e.LeftOut = append(e.LeftOut, wall)
		}
		if len(e.LeftOut) > 0 {
			all = append(all, e)
		}
		from = change
	}
}

// repeats: the clocks went back less than an hour (or whatever they went) ago,
// and the schedule was due at the same reading before.
func (t Timetable) repeats(slot time.Time) bool {
	if t.p.every > 0 {
		return false
	}
	change, _ := slot.In(t.p.zone).ZoneBounds()
	if change.IsZero() {
		return false
	}
	_, before := change.Add(-time.Second).In(t.p.zone).Zone()
	_, after := change.In(t.p.zone).Zone()
	first := slot.Add(-time.Duration(before-after) * time.Second)
	if !first.Before(change) || !first.Before(slot) {
		return false
	}
	once := slots{base: first.Add(-time.Second), zone: t.p.zone, spec: t.p.spec}
	return once.next(once.base).Equal(first)
}
