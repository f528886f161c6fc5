package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// cronStory is an answer about a CronJob in the making.
type cronStory struct {
	Answer
	c       clock
	cronJob *batchv1.CronJob
	jobs    []*batchv1.Job // the latest first
	events  []*corev1.Event
	outlook cron.Outlook
	read    string // in which time zone the schedule is, if that is worth a word
	covered []string
}

// CronJob explains a CronJob, from itself, the Jobs that it controls and the
// events about it. zones finds the time zone that it names.
func CronJob(now time.Time, zones cron.Zones, c *batchv1.CronJob, jobs []*batchv1.Job, events []*corev1.Event) Answer {
	s := &cronStory{Answer: about("CronJob", &c.ObjectMeta), c: clock{now}, cronJob: c, jobs: slices.Clone(jobs), events: events}
	slices.SortFunc(s.jobs, func(x, y *batchv1.Job) int {
		return cmp.Or(y.CreationTimestamp.Compare(x.CreationTimestamp.Time), strings.Compare(y.Name, x.Name))
	})
	zone, how := Zone(now, c)
	s.read = how
	s.history()
	var err error
	s.outlook, err = cron.Look(now, c, zones, zone)
	switch {
	case c.DeletionTimestamp != nil:
		s.deleted(s.c, &c.ObjectMeta)
	case err != nil:
		s.is(Never, "never starts a Job: its schedule cannot be read.")
		s.why("schedule %q%s: %v", c.Spec.Schedule, s.read, err)
		s.next("nothing until the schedule or its time zone is corrected")
		s.covered = append(s.covered, reason.UnparseableSchedule, reason.UnknownTimeZone)
	case ptr.Deref(c.Spec.Suspend, false):
		s.suspended()
	default:
		s.scheduled()
	}
	s.Answer.events(s.c, events, s.covered...)
	return s.Answer
}

// history says what was started last, and what became of it.
func (s *cronStory) history() {
	c := s.cronJob
	s.soFar("created %s; schedule %q%s", s.c.at(c.CreationTimestamp.Time), c.Spec.Schedule, s.read)
	if last := c.Status.LastScheduleTime; last != nil {
		s.soFar("the last slot that was started: %s", s.c.span(last.Time))
	} else {
		s.soFar("no slot has been started yet")
	}
	shown := 0
	for _, j := range s.jobs {
		if shown == examples {
			break
		}
		shown++
		s.soFar("%s", s.run(j))
		if ev := latest(s.events, reason.UnexpectedJob); ev != nil && byHand(j) && strings.HasSuffix(ev.Message, " "+j.Name) {
			s.covered = append(s.covered, ev.Reason)
		}
	}
	if last := c.Status.LastSuccessfulTime; last != nil && shown == 0 {
		s.soFar("the last Job that succeeded did so %s", s.c.at(last.Time))
	}
}

// byHand: the Job was not started by the schedule.
func byHand(j *batchv1.Job) bool {
	return j.Annotations[kind.JobInstantiate] == "manual"
}

// run is a line about one Job.
func (s *cronStory) run(j *batchv1.Job) string {
	line := "job/" + j.Name
	if byHand(j) {
		line += ", started by hand,"
	}
	switch end := kind.JobEnd(j); {
	case end == nil && ptr.Deref(j.Spec.Suspend, false):
		return line + " is suspended"
	case end == nil && j.Status.StartTime != nil && j.Status.Active == 0:
		return line + " was started " + s.c.at(j.Status.StartTime.Time) + ", and has no active pod"
	case end == nil && j.Status.StartTime != nil && ptr.Deref(j.Status.Ready, 1) == 0:
		return line + " was started " + s.c.at(j.Status.StartTime.Time) + ", and has no ready pod"
	case end == nil && j.Status.StartTime != nil:
		return line + " has been running since " + s.c.span(j.Status.StartTime.Time)
	case end == nil:
		return line + " was created " + s.c.at(j.CreationTimestamp.Time)
	case end.Type == batchv1.JobFailed:
		return fmt.Sprintf("%s Failed %s: %s", line, s.c.at(end.LastTransitionTime.Time), whyOf(end))
	default:
		return line + " was Complete " + s.c.at(end.LastTransitionTime.Time)
	}
}

// suspended: nothing starts until somebody resumes it; then what was missed
// last may.
func (s *cronStory) suspended() {
	s.is(Suspended, "is suspended.")
	s.covered = append(s.covered, reason.CronJobSuspended)
	s.why("spec.suspend is true: no Job is started, those that run go on")
	s.next("nothing until somebody resumes it: %s", s.command(fmt.Sprintf(`kubectl patch cronjob %s -p '{"spec":{"suspend":false}}'`, s.cronJob.Name)))
	o := &s.outlook
	switch {
	case o.Slot.IsZero():
	case o.Hindrance == cron.TooLate:
		s.next("the slot of %s is missed for good (startingDeadlineSeconds %d)", s.c.span(o.Slot), *s.cronJob.Spec.StartingDeadlineSeconds)
	case o.Hindrance == cron.Forbidden:
		s.next("the slot of %s then waits for %s to end (Forbid)%s", s.c.span(o.Slot), strings.Join(s.active(), ", "), s.unlessLate())
	default:
		s.next("the slot of %s is started as soon as it is resumed%s", s.c.span(o.Slot), s.unlessLate())
	}
}

// unlessLate says until when the slot that is due may still be started.
func (s *cronStory) unlessLate() string {
	if s.outlook.Until.IsZero() {
		return ""
	}
	return fmt.Sprintf(", but not after %s (startingDeadlineSeconds)", s.c.span(s.outlook.Until))
}

// scheduled is the story of a CronJob that is not suspended.
func (s *cronStory) scheduled() {
	active := s.active()
	s.is(Waiting, "waits for its next time.")
	if len(active) > 0 {
		s.is(Running, "is running: %s.", strings.Join(active, ", "))
	}
	if last := s.cronJob.Status.LastScheduleTime; last != nil && last.After(s.c.now.Add(time.Second)) {
		s.why("slots up to %s were dealt with before the clock was set back, and are not started again", s.c.span(last.Time))
	}
	if !s.outlook.Slot.IsZero() {
		s.due(active)
	}
	s.upcoming(active)
}

// active names the Jobs that the schedule started and that run: a few, and how
// many more.
func (s *cronStory) active() []string {
	var names []string
	for i, ref := range s.cronJob.Status.Active {
		if more := len(s.cronJob.Status.Active) - i; i >= examples && more > 1 {
			return append(names, fmt.Sprintf("and %d more", more))
		}
		names = append(names, "job/"+ref.Name)
	}
	return names
}

// due explains why the most recent slot has not been started.
func (s *cronStory) due(active []string) {
	o, slot := &s.outlook, s.c.span(s.outlook.Slot)
	refused := latest(s.events, reason.FailedCreate, reason.JobAlreadyExists)
	switch {
	case o.Hindrance == cron.TooLate:
		s.why("the slot of %s was missed: its deadline passed %s (startingDeadlineSeconds %d)",
			slot, s.c.at(o.Until), *s.cronJob.Spec.StartingDeadlineSeconds)
		s.covered = append(s.covered, reason.MissSchedule)
	case o.Hindrance == cron.SameMinute:
		s.why("the slot of %s is not started: a Job of the same minute still runs, and has its name", slot)
		s.covered = append(s.covered, reason.JobAlreadyExists)
	case o.Hindrance == cron.Forbidden:
		s.why("the slot of %s waits: concurrencyPolicy is Forbid, and %s still runs", slot, strings.Join(active, ", "))
		s.next("when that has ended, the most recent slot is started at once%s", s.unlessLate())
		s.covered = append(s.covered, reason.JobAlreadyActive)
	case refused != nil && !kind.LastHappened(refused).Before(o.Slot):
		s.is(Pending, "cannot start the Job that is due.")
		s.why("the slot of %s: %s", slot, FirstLine(refused.Message))
		if refused.Reason == reason.JobAlreadyExists {
			s.next("it is tried again only if the CronJob or one of its Jobs changes before the next slot%s", s.unlessLate())
		} else {
			s.next("its controller tries again, until the next slot takes its place%s", s.unlessLate())
		}
		s.covered = append(s.covered, refused.Reason)
	default:
		s.why("the slot of %s is due, and has not been started yet by its controller%s", slot, s.c.isItThere(o.Slot))
		s.next("it is started as soon as the controller looks at it%s", s.unlessLate())
	}
}

// upcoming says when it is due next, and what the time zone does to that.
func (s *cronStory) upcoming(active []string) {
	zone := s.outlook.Zone()
	slots := 0
	for _, e := range s.outlook.Upcoming(s.c.now, 2) {
		if len(e.LeftOut) > 0 {
			first := e.LeftOut[0]
			s.next("%s does not exist on %s in %s, whose clocks go forward then: no Job is started for it",
				first.Format("15:04"), first.Format(time.DateOnly), ZoneName(zone, e.Time))
			continue
		}
		slots++
		if slots == 1 {
			s.wake(e.Time)
			s.next("%s", s.slot(e, zone)+s.policy(active))
		} else {
			s.next("then %s", s.slot(e, zone))
		}
	}
	if slots == 0 {
		s.next("never: no time within the next five years matches %q", s.cronJob.Spec.Schedule)
		s.covered = append(s.covered, reason.InvalidSchedule)
		if len(active) == 0 {
			s.is(Never, "never starts a Job: its schedule matches no time.")
		}
	}
}

// slot is when a Job is due, here and in the schedule's time zone.
func (s *cronStory) slot(e cron.Entry, zone *time.Location) string {
	text := s.c.span(e.Time)
	if there := e.Time.In(zone).Format("Mon 15:04"); there != e.Time.In(s.c.now.Location()).Format("Mon 15:04") {
		text += ", which is " + there + " in " + ZoneName(zone, e.Time)
	}
	if e.Repeat {
		text += ", for the second time, as the clocks there go back"
	}
	return text
}

// policy is what the next slot does if what runs now still runs then.
func (s *cronStory) policy(active []string) string {
	if len(active) == 0 {
		return ""
	}
	still, gone := active[0]+" still runs", "it is"
	if len(active) > 1 {
		still, gone = "these still run", "they are"
	}
	switch s.cronJob.Spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		return fmt.Sprintf("; if %s then, it has to wait for that (Forbid)", still)
	case batchv1.ReplaceConcurrent:
		return fmt.Sprintf("; if %s then, %s deleted (Replace)", still, gone)
	}
	return fmt.Sprintf("; if %s then, the new Job runs beside (Allow)", still)
}
