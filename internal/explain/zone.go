package explain

import (
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/sampan-batch/sampan/internal/cron"
)

// Zone is the time zone that the schedule of a CronJob is read in, and the
// words for how that is known, which go behind the schedule: " in Asia/Seoul".
//
// Without spec.timeZone it is that of the controller, which no object names.
// Sampan's, which leaves a mark on CronJobs, runs on this machine as a rule;
// those of clusters run in containers, where it is UTC. The last slot that was
// started tells if it is the other way round.
func Zone(now time.Time, c *batchv1.CronJob) (_ *time.Location, how string) {
	if name := c.Spec.TimeZone; name != nil {
		return time.UTC, " in " + *name // TimetableOf goes by that name
	}
	if strings.HasPrefix(c.Spec.Schedule, "@every ") || strings.Contains(c.Spec.Schedule, "TZ=") {
		return now.Location(), "" // the same everywhere
	}
	zone, other := time.UTC, now.Location()
	if _, ours := c.Annotations[cron.ScheduleAnnotation]; ours {
		zone, other = other, zone
	}
	switch last := c.Status.LastScheduleTime; {
	case last == nil || isSlot(c, zone, last.Time):
		return zone, " in its controller's time zone, taken to be " + ZoneName(zone, now)
	case isSlot(c, other, last.Time):
		return other, " in its controller's time zone, which is " + ZoneName(other, now) + " by its last slot"
	}
	return zone, " in its controller's time zone, taken to be " + ZoneName(zone, now) + ", which its last slot does not fit"
}

// isSlot: the schedule is due at t, if it is read in this time zone.
func isSlot(c *batchv1.CronJob, zone *time.Location, t time.Time) bool {
	before := t.Add(-time.Second)
	timetable, err := cron.NewTimetable(c.Spec.Schedule, zone, before)
	return err != nil || timetable.Next(before).Equal(t)
}

// ZoneName names a time zone; that of this machine has no name of its own.
func ZoneName(zone *time.Location, at time.Time) string {
	if zone != time.Local {
		return zone.String()
	}
	return at.In(zone).Format("MST")
}
