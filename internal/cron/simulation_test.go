package cron

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run the simulation of this seed only")
	lives   = flag.Uint64("lives", 1000, "simulate so many CronJobs")
)

// TestYear lives through a year of a daily CronJob whose Jobs take two hours.
func TestYear(t *testing.T) {
	t.Parallel()
	seoul, la := mustLoad(t, "Asia/Seoul"), mustLoad(t, "America/Los_Angeles")
	for _, c := range []struct {
		zone *time.Location
		want int // Jobs
		said int // slots that did not exist
	}{{seoul, 365, 0}, {la, 364, 1}} {
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, c.zone)
		cj := newCron("30 2 * * *", zone(c.zone.String()), policy("Forbid"))
		cj.CreationTimestamp = metav1.NewTime(begin)
		w := newWorld(cj)
		var slots []time.Time
		said := 0
		see := func(r result) {
			for _, slot := range r.started {
				if !r.now.Equal(slot) {
					t.Errorf("%s is started at %s", slot, r.now)
				}
				slots = append(slots, slot.In(c.zone))
			}
			for _, n := range r.notes {
				if n.Reason == "MissSchedule" {
					said++
				}
			}
		}
		for day := range 365 {
			at := time.Date(2026, 1, 1+day, 5, 0, 0, 0, c.zone)
			w.sleepUntil(at, see)
			for _, j := range w.jobs() {
				if finished(j) == "" {
					w.finish(j, batchv1.JobComplete)
				}
			}
		}
		w.sleepUntil(begin.AddDate(1, 0, 0), see)
		if len(slots) != c.want || said != c.said {
			t.Errorf("%s: %d Jobs and %d explanations, want %d and %d", c.zone, len(slots), said, c.want, c.said)
		}
		for _, slot := range slots {
			if slot.Hour() != 2 || slot.Minute() != 30 {
				t.Errorf("a Job is started for %s", slot)
			}
		}
		if got := len(w.jobs()); got != 3 {
			t.Errorf("%d Jobs are kept, want 3", got)
		}
	}
}

// TestSimulation lives through the lives of random CronJobs, and checks after
// every commit what must hold whatever happens.
func TestSimulation(t *testing.T) {
	t.Parallel()
	from, to := uint64(1), *lives
	if testing.Short() {
		to = min(to, 50)
	}
	if *oneSeed != 0 {
		from, to = *oneSeed, *oneSeed
	}
	seen := make(map[string]int)
	for seed := from; seed <= to; seed++ {
		s := newSimulation(seed)
		for range 80 {
			if s.step(); s.failure != "" {
				t.Fatalf("go test -run Simulation -seed %d: %s\n%s", seed, s.failure, strings.Join(s.story, "\n"))
			}
		}
		for reason, n := range s.reasons {
			seen[reason] += n
		}
	}
	t.Logf("seeds %d to %d: %v", from, to, seen)
	if to-from >= 250 {
		for _, reason := range []string{"SuccessfulCreate", "SuccessfulDelete", "SawCompletedJob", "MissingJob", "UnexpectedJob", "MissSchedule",
			"TooManyMissedTimes", "JobAlreadyActive", "CronJobSuspended", "ClockSetBack", "JobAlreadyExists", "UnparseableSchedule"} {
			if seen[reason] == 0 {
				t.Errorf("no event %s: the simulation does not reach it", reason)
			}
		}
	}
}

var schedules = []string{"* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "0 0 * * 1-5", "*/15 9-17 * * *", "@every 90s", "@every 45s",
	"@hourly", "0 0 1 * *", "15,45 1-3 * * *", "0 0 31 2 *", "61 * * * *"}

// simulation is a world with users, Jobs that take their time, and a clock that
// is not to be trusted.
type simulation struct {
	*world
	*rand.Rand
	started map[string]types.UID // every Job that was ever started, by name
	told    map[time.Time]string // slots that were explained
	reasons map[string]int
	edited  time.Time // when the schedule was last changed
	highest time.Time // the latest slot that was started
	latest  time.Time // that the clock ever showed
	jumpy   bool
	story   []string
	failure string
}

func newSimulation(seed uint64) *simulation {
	s := &simulation{Rand: rand.New(rand.NewPCG(seed, 1)), started: make(map[string]types.UID), told: make(map[time.Time]string), reasons: make(map[string]int)}
	s.jumpy = s.IntN(5) == 0
	zones := []func(*batchv1.CronJob){func(*batchv1.CronJob) {}, zone("Asia/Seoul"), zone("America/Los_Angeles")}
	cj := newCron(schedules[s.IntN(len(schedules)-1)], zones[s.IntN(3)],
		policy([]batchv1.ConcurrencyPolicy{"Allow", "Forbid", "Replace"}[s.IntN(3)]))
	if s.IntN(3) == 0 {
		deadline(int64(s.IntN(600)))(cj)
	}
	cj.CreationTimestamp = metav1.NewTime(t0.Add(time.Duration(s.IntN(80*24*3600)) * time.Second))
	s.world = newWorld(cj)
	s.edited = s.now
	return s
}

func (s *simulation) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf(format, args...)
	}
}

// step: time passes, with the engine awake, asleep or late; then somebody acts.
func (s *simulation) step() {
	pause := time.Duration(s.IntN(600_000)) * time.Millisecond
	if s.IntN(10) == 0 {
		pause *= time.Duration(s.IntN(500))
	}
	switch s.IntN(6) {
	case 0: // the engine is down
		s.now = s.now.Add(pause)
		s.dirty = true
	case 1: // the world moves on before the engine writes
		view := s.view()
		s.act()
		if r := s.decide(view, s.now); !r.unchosen {
			s.check(r)
		}
		s.dirty = true
	default:
		s.sleepUntil(s.now.Add(min(pause, hour)), func(r result) { s.check(r); s.finishOldest() })
	}
	if s.jumpy && s.IntN(10) == 0 {
		s.now = s.now.Add(time.Duration(s.IntN(7*24*3600)-4*24*3600) * time.Second)
		s.dirty = true
		s.story = append(s.story, fmt.Sprintf("the clock is set to %s", s.now))
	}
	s.latest = later(s.latest, s.now)
	s.act()
	s.settle(s.check)
	s.checkHistory(s.cron())
	s.expectNothing()
}

// expectNothing: before it wants to be woken, and as long as nothing changes,
// there is nothing to decide.
func (s *simulation) expectNothing() {
	now := s.now.Add(time.Duration(s.IntN(3000)) * time.Millisecond)
	if !s.wakeAt.IsZero() && !now.Before(s.wakeAt) {
		return
	}
	set := Decide(now, s.view())
	set.Notes = slices.DeleteFunc(set.Notes, func(n change.Note) bool { // what is said at every look
		return n.Reason == "UnexpectedJob" || n.Reason == "InvalidSchedule" || n.Reason == "UnparseableSchedule"
	})
	if !set.Empty() {
		s.fail("at %s, before it wanted to wake at %s, it decides %q %q", now, s.wakeAt, summary(set), reasons(set))
	}
}

// act does something that Jobs and users do.
func (s *simulation) act() {
	jobs := s.jobs()
	switch n := s.IntN(10); {
	case n < 4 && len(jobs) > 0:
		if j := jobs[s.IntN(len(jobs))]; finished(j) == "" {
			s.finish(j, []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed}[s.IntN(2)])
		}
	case n == 4 && len(jobs) > 0:
		j := jobs[s.IntN(len(jobs))]
		delete(s.objects, change.Key{Resource: "jobs.batch", Namespace: "ns", Name: j.Name})
		s.rev++
		s.dirty = true
	case n == 5:
		s.edit(func(c *batchv1.CronJob) { c.Spec.Suspend = ptr.To(!*c.Spec.Suspend) })
	case n == 6 && s.IntN(4) == 0:
		if next := schedules[s.IntN(len(schedules))]; next != s.cron().Spec.Schedule {
			if s.cron().Annotations[ScheduleAnnotation] != "" { // it has been looked at
				s.edited = s.now
			}
			s.edit(func(c *batchv1.CronJob) { c.Spec.Schedule = next })
		}
	case n == 7:
		s.edit(func(c *batchv1.CronJob) { c.Spec.SuccessfulJobsHistoryLimit = ptr.To(int32(s.IntN(4))) })
	case n == 8 && s.IntN(3) == 0: // a Job by hand, or one in the way
		slot := s.now.Truncate(minute).Add(time.Duration(s.IntN(10)) * minute)
		j := newJob(slot.Sub(t0), func(j *batchv1.Job) { j.Status = batchv1.JobStatus{}; j.UID = types.UID(fmt.Sprint("hand-", s.rev)) })
		if s.IntN(2) == 0 {
			foreign(j)
		}
		if key := (change.Key{Resource: "jobs.batch", Namespace: "ns", Name: j.Name}); s.objects[key] == nil && s.started[j.Name] == "" {
			s.store(key, j)
		}
	}
}

// finishOldest lets no more than a few Jobs run at a time.
func (s *simulation) finishOldest() {
	var running []*batchv1.Job
	for _, j := range s.jobs() {
		if finished(j) == "" {
			running = append(running, j)
		}
	}
	if len(running) > 5 {
		s.finish(running[0], batchv1.JobComplete)
	}
}

// check looks at what one decision did.
func (s *simulation) check(r result) {
	if r.unchosen {
		return
	}
	s.story = append(s.story, fmt.Sprintf("%s %s %q %q", r.now.Format("01-02 15:04:05"), r.before.Spec.Schedule, summary(r.set), reasons(r.set)))
	for _, n := range r.notes {
		s.reasons[n.Reason]++
	}
	spec := &r.before.Spec
	if len(r.started) > 1 {
		s.fail("%d Jobs are started at once", len(r.started))
	}
	for _, slot := range r.started {
		s.checkStart(r, slot)
	}
	explained, _ := time.Parse(time.RFC3339, r.after.Annotations[ExplainedAnnotation])
	for _, n := range r.notes {
		switch n.Reason {
		case "JobAlreadyActive", "CronJobSuspended", "JobAlreadyExists":
			if s.told[explained] != "" && !s.jumpy {
				s.fail("%s is explained as %s, and was as %s", explained, n.Reason, s.told[explained])
			}
			s.told[explained] = n.Reason
		}
	}
	running := 0
	for _, ref := range r.after.Status.Active {
		if j := s.view().Job(ref.Name); j != nil && j.UID == ref.UID && finished(j) == "" {
			running++
		}
	}
	if running > 1 && spec.ConcurrencyPolicy != batchv1.AllowConcurrent {
		s.fail("%d Jobs run with %s", running, spec.ConcurrencyPolicy)
	}
}

// checkStart: a slot is one of the schedule's, due, not too late, the latest,
// and has never been started before.
func (s *simulation) checkStart(r result, slot time.Time) {
	c, spec := r.before, &r.before.Spec
	name := jobName(c, slot)
	job := s.view().Job(name)
	p := read(r.now, r.after, time.LoadLocation).slots
	switch {
	case job == nil || !metav1.IsControlledBy(job, c):
		s.fail("%s was not created", name)
	case s.started[name] != "" && (p.every == 0 || p.every >= minute): // else two slots may share a name, if the first Job is gone
		s.fail("%s is started again", name)
	case slot.After(r.now):
		s.fail("%s is started at %s", slot, r.now)
	case spec.StartingDeadlineSeconds != nil && r.now.Sub(slot) > time.Duration(*spec.StartingDeadlineSeconds)*time.Second:
		s.fail("%s is started at %s, its deadline is %ds", slot, r.now, *spec.StartingDeadlineSeconds)
	case *spec.Suspend:
		s.fail("%s is started, but suspended", slot)
	case spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(r.after.Status.Active) > 1:
		s.fail("%s is started beside %v", slot, r.after.Status.Active)
	case !slot.After(s.highest):
		s.fail("%s is started after %s", slot, s.highest)
	case !p.next(r.now).After(r.now) || !r.after.Status.LastScheduleTime.Time.Equal(slot):
		s.fail("lastScheduleTime is %v after %s", r.after.Status.LastScheduleTime, slot)
	case !s.jumpy && !slot.After(s.edited.Truncate(time.Second)) && slot.After(r.before.CreationTimestamp.Time) && s.edited.After(r.before.CreationTimestamp.Time):
		s.fail("%s is started, but the schedule is of %s", slot, s.edited)
	}
	if p.every == 0 && !p.spec.Next(slot.Add(-time.Second).In(p.zone)).Equal(slot) {
		s.fail("%s is no slot of %s", slot, spec.Schedule)
	}
	s.started[name], s.highest = job.UID, slot
}

// checkHistory: what is active runs, and no more finished Jobs are kept than the limits say.
func (s *simulation) checkHistory(c *batchv1.CronJob) {
	var complete, failed int
	for _, j := range s.jobs() {
		if !metav1.IsControlledBy(j, c) {
			continue
		}
		switch finished(j) {
		case batchv1.JobComplete:
			complete++
		case batchv1.JobFailed:
			failed++
		}
	}
	if complete > int(*c.Spec.SuccessfulJobsHistoryLimit) || failed > int(*c.Spec.FailedJobsHistoryLimit) {
		s.fail("%d complete and %d failed Jobs are kept", complete, failed)
	}
	for _, ref := range c.Status.Active {
		if j := s.view().Job(ref.Name); j == nil || j.UID != ref.UID || finished(j) != "" {
			s.fail("%s is active, but has ended or is gone", ref.Name)
		}
	}
}
