package cron

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Outlook is what the rules say of a CronJob: which slot it owes, what keeps it from
// being started, and until when it may be. It is found as Decide finds it, for those
// who only look.
type Outlook struct {
	Timetable // of the slots that it owes and will
	// Slot is the most recent one that is owed; zero if none is.
	Slot time.Time
	// Hindrance is what keeps it from being started, a suspension apart.
	Hindrance Hindrance
	// Until is from when on it is too late to start it; zero is never.
	Until time.Time
}

// Hindrance is why a slot that is due is not started.
type Hindrance uint8

const (
	Unhindered Hindrance = iota
	TooLate              // its starting deadline has passed
	SameMinute           // the Job of another slot of its minute runs, and has its name
	Forbidden            // a Job runs, and concurrencyPolicy is Forbid
)

// Look returns the outlook of a CronJob whose status.active says what runs. zone is
// the one that a schedule without spec.timeZone is read in.
func Look(now time.Time, c *batchv1.CronJob, zones Zones, zone *time.Location) (Outlook, error) {
	table, err := TimetableOf(c, zones, zone)
	if err != nil {
		return Outlook{}, err
	}
	o := Outlook{Timetable: table}
	slot, due := table.Last(now)
	if !due {
		return o, nil
	}
	o.Slot, o.Hindrance = slot, hindranceOf(now, c, c.Status.Active, slot)
	if at, ok := startingDeadline(c, slot); ok {
		o.Until = at
	}
	return o, nil
}

func hindranceOf(now time.Time, c *batchv1.CronJob, active []corev1.ObjectReference, slot time.Time) Hindrance {
	deadline, has := startingDeadline(c, slot)
	name := jobName(c, slot)
	switch {
	case has && !deadline.After(now):
		return TooLate
	case slices.ContainsFunc(active, func(r corev1.ObjectReference) bool { return r.Name == name }):
		return SameMinute
	case c.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(active) > 0:
		return Forbidden
	}
	return Unhindered
}

// startingDeadline returns from when on it is too late to start a slot, if there is
// such a time.
func startingDeadline(c *batchv1.CronJob, slot time.Time) (_ time.Time, has bool) {
	seconds := c.Spec.StartingDeadlineSeconds
	if seconds == nil {
		return time.Time{}, false
	}
	return slot.Add(within(*seconds)), true
}

// within is startingDeadlineSeconds as Kubernetes reckons with it: where more than 292 years are asked for, its
// arithmetic overflows, and the deadline has passed. (Recorded: the session cronjob-deadline.)
func within(startingDeadlineSeconds int64) time.Duration {
	return time.Duration(startingDeadlineSeconds) * time.Second
}
