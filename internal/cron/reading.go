package cron

import (
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/sampan-batch/sampan/internal/reason"
)

// reading is a CronJob's schedule as it is understood now.
type reading struct {
	slots      slots
	ok         bool   // without, there is nothing to wait for
	mark       string // the next value of ScheduleAnnotation
	complaints []note // what is wrong with the schedule
}

// read reads the schedule. Where that cannot be done it says why.
func read(now time.Time, c *batchv1.CronJob, zones Zones) reading {
	r := reading{mark: c.Annotations[ScheduleAnnotation]}
	if c.DeletionTimestamp != nil {
		return r
	}
	r.mark = nextMark(now, c)
	// No schedule is looked at further back than it is looked ahead.
	base := later(owedSince(c, r.mark), now.AddDate(-5, 0, 0)).Truncate(time.Second)
	var complaints []note
	r.slots, complaints, r.ok = parse(&c.Spec, zones, now.Location(), base)
	// They are said whenever the schedule is looked at, as Kubernetes does; but not
	// of a CronJob that starts nothing anyway.
	if !isSuspended(c) {
		r.complaints = complaints
	}
	return r
}

// parse reads a spec, whose schedule is in the time zone local unless it says in which.
func parse(spec *batchv1.CronJobSpec, zones Zones, local *time.Location, base time.Time) (_ slots, complaints []note, ok bool) {
	zone, err := zones.of(spec, local)
	if err != nil {
		return slots{}, []note{warning(reason.UnknownTimeZone, fmt.Sprintf("invalid timeZone: %q: %s", *spec.TimeZone, err))}, false
	}
	p, err := zones.slots(spec.Schedule, zone, base)
	if err != nil {
		return slots{}, []note{warning(reason.UnparseableSchedule, fmt.Sprintf("unparseable schedule: %q : %s", spec.Schedule, err))}, false
	}
	if strings.Contains(spec.Schedule, "TZ") {
		complaints = append(complaints, warning(reason.UnsupportedSchedule, fmt.Sprintf("CRON_TZ or TZ used in schedule %q is not officially supported, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", spec.Schedule)))
	}
	if p.next(p.base).IsZero() {
		return slots{}, append(complaints, warning(reason.InvalidSchedule,
			fmt.Sprintf("invalid schedule: %s : time difference between two schedules is less than 1 second", spec.Schedule))), false
	}
	return p, complaints, true
}

// nextMark is what ScheduleAnnotation should say: it takes note of a schedule that
// is new.
func nextMark(now time.Time, c *batchv1.CronJob) string {
	mark, at := scheduleMark(c), now.UTC().Format(time.RFC3339)
	was, known := c.Annotations[ScheduleAnnotation]
	switch changed, same := strings.CutPrefix(was, mark); {
	case !known:
		return mark
	case !same, changed > at: // the latter if the clock was set back since
		return mark + at
	}
	return was
}
