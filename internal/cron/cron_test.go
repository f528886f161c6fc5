package cron

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// t0 is when everything starts: a Saturday.
var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

const hour, minute = time.Hour, time.Minute

var jobRow = kind.Job()

// newCron returns the CronJob nightly, created at t0, as edits make it. It has
// been looked at before.
func newCron(schedule string, edits ...func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "nightly", UID: "cron-uid", ResourceVersion: "10", Generation: 1, CreationTimestamp: metav1.NewTime(t0)},
		Spec: batchv1.CronJobSpec{
			Schedule: schedule, ConcurrencyPolicy: batchv1.AllowConcurrent, Suspend: ptr.To(false),
			SuccessfulJobsHistoryLimit: ptr.To[int32](3), FailedJobsHistoryLimit: ptr.To[int32](1),
			JobTemplate: batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}, Annotations: map[string]string{"a": "b"}},
				Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
					RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "busybox"}},
				}}},
			},
		},
	}
	for _, edit := range edits {
		edit(c)
	}
	if _, ok := c.Annotations[ScheduleAnnotation]; !ok {
		annotation(ScheduleAnnotation, c.Spec.Schedule+"|"+ptr.Deref(c.Spec.TimeZone, "")+"|"+t0.Format(time.RFC3339))(c)
	}
	return c
}

func annotation(key, value string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) {
		if c.Annotations == nil {
			c.Annotations = make(map[string]string)
		}
		c.Annotations[key] = value
	}
}

func ran(after time.Duration) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Status.LastScheduleTime = ptr.To(metav1.NewTime(t0.Add(after))) }
}

func told(after time.Duration) func(*batchv1.CronJob) {
	return annotation(ExplainedAnnotation, t0.Add(after).Format(time.RFC3339))
}

func policy(p batchv1.ConcurrencyPolicy) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = p }
}

func deadline(seconds int64) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &seconds }
}

func keep(successful int32) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.SuccessfulJobsHistoryLimit = &successful }
}

func zone(name string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.TimeZone = &name }
}

func suspended(c *batchv1.CronJob) { c.Spec.Suspend = ptr.To(true) }

// active lists Jobs by their slots.
func active(after ...time.Duration) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) {
		for _, a := range after {
			j := newJob(a)
			c.Status.Active = append(c.Status.Active, corev1.ObjectReference{Name: j.Name, Namespace: j.Namespace, UID: j.UID})
		}
	}
}

// newJob returns the CronJob's Job of the slot after t0, running, as edits make it.
func newJob(after time.Duration, edits ...func(*batchv1.Job)) *batchv1.Job {
	name := fmt.Sprintf("nightly-%d", t0.Add(after).Unix()/60)
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "20", CreationTimestamp: metav1.NewTime(t0.Add(after)),
			OwnerReferences: []metav1.OwnerReference{{Kind: "CronJob", Name: "nightly", UID: "cron-uid", Controller: ptr.To(true)}},
		},
		Status: batchv1.JobStatus{StartTime: ptr.To(metav1.NewTime(t0.Add(after))), Active: 1},
	}
	for _, edit := range edits {
		edit(j)
	}
	return j
}

func ended(as batchv1.JobConditionType, after time.Duration) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: as, Status: "True", LastTransitionTime: metav1.NewTime(t0.Add(after))}}
		if as == batchv1.JobComplete {
			j.Status.CompletionTime = ptr.To(metav1.NewTime(t0.Add(after)))
		}
	}
}

func foreign(j *batchv1.Job) { j.OwnerReferences = nil }

func state(c *batchv1.CronJob, jobs ...*batchv1.Job) State {
	var own []*batchv1.Job
	for _, j := range jobs {
		if metav1.IsControlledBy(j, c) {
			own = append(own, j)
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
	return State{CronJob: c, Jobs: own, Namespace: namespace, JobKind: jobRow, UID: "new-uid", Zones: time.LoadLocation, Job: func(name string) *batchv1.Job {
		i := slices.IndexFunc(jobs, func(j *batchv1.Job) bool { return j.Name == name })
		if i < 0 {
			return nil
		}
		return jobs[i]
	}}
}

// after spells a moment as distance from t0.
func after(t time.Time) string {
	if d := t.Sub(t0); d%hour == 0 {
		return fmt.Sprintf("%dh", d/hour)
	}
	return t.Sub(t0).String()
}

// summary spells the Jobs that a set creates and deletes by their slots.
func summary(set change.Set) string {
	var out []string
	for _, w := range set.Writes {
		if w.Key.Resource != "jobs.batch" {
			continue
		}
		var minutes int64
		fmt.Sscanf(w.Key.Name, "nightly-%d", &minutes)
		out = append(out, map[change.Op]string{change.Create: "+", change.Delete: "-"}[w.Op]+after(time.Unix(minutes*60, 0)))
	}
	return strings.Join(out, " ")
}

func reasons(set change.Set) string {
	var out []string
	for _, n := range set.Notes {
		out = append(out, n.Reason)
	}
	return strings.Join(out, " ")
}

// nextCron returns the CronJob as the set leaves it.
func nextCron(s State, set change.Set) *batchv1.CronJob {
	for _, w := range set.Writes {
		if w.Key == cronKey(s.CronJob) {
			return w.Object.(*batchv1.CronJob)
		}
	}
	return s.CronJob
}

type want struct {
	jobs   string // summary
	notes  string
	active int
	last   string // lastScheduleTime
	wake   string
}

type decideCase struct {
	name string
	cron *batchv1.CronJob
	jobs []*batchv1.Job
	now  time.Duration
	want want
}

func runCases(t *testing.T, cases []decideCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := state(c.cron, c.jobs...)
			set := Decide(t0.Add(c.now), s)
			next := nextCron(s, set)
			got := want{jobs: summary(set), notes: reasons(set), active: len(next.Status.Active)}
			if next.Status.LastScheduleTime != nil {
				got.last = after(next.Status.LastScheduleTime.Time)
			}
			if !set.WakeAt.IsZero() {
				got.wake = after(set.WakeAt)
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	running := []*batchv1.Job{newJob(hour)}
	beingDeleted := func(c *batchv1.CronJob) { c.DeletionTimestamp = ptr.To(metav1.NewTime(t0)) }
	runCases(t, []decideCase{
		{"not due", newCron("0 * * * *"), nil, 59 * minute, want{wake: "1h"}},
		{"a moment early", newCron("0 * * * *"), nil, hour - time.Millisecond, want{wake: "1h"}},
		{"due", newCron("0 * * * *"), nil, hour, want{jobs: "+1h", notes: "SuccessfulCreate", active: 1, last: "1h", wake: "2h"}},
		{"late", newCron("0 * * * *"), nil, hour + 30*minute, want{jobs: "+1h", notes: "SuccessfulCreate", active: 1, last: "1h", wake: "2h"}},
		{"started already", newCron("0 * * * *", ran(hour), active(hour)), running, hour, want{active: 1, last: "1h", wake: "2h"}},
		{"one run makes up for a downtime", newCron("0 * * * *", ran(hour)), nil, 5*hour + minute,
			want{jobs: "+5h", notes: "MissSchedule SuccessfulCreate", active: 1, last: "5h", wake: "6h"}},
		{"a long downtime", newCron("* * * * *", ran(hour)), nil, 5 * hour,
			want{jobs: "+5h", notes: "TooManyMissedTimes MissSchedule SuccessfulCreate", active: 1, last: "5h", wake: "5h1m0s"}},
		{"within the deadline", newCron("0 * * * *", deadline(60)), nil, hour + minute - 1, want{jobs: "+1h", notes: "SuccessfulCreate", active: 1, last: "1h", wake: "2h"}},
		{"a deadline that overflows", newCron("0 * * * *", deadline(10_000_000_000)), nil, hour, want{notes: "MissSchedule", wake: "2h"}},
		{"no time at all", newCron("0 * * * *", deadline(0)), nil, hour, want{notes: "MissSchedule", wake: "2h"}},
		{"past the deadline", newCron("0 * * * *", deadline(60)), nil, hour + minute, want{notes: "MissSchedule", wake: "2h"}},
		{"past the deadline, told", newCron("0 * * * *", deadline(60), told(hour)), nil, hour + 2*minute, want{wake: "2h"}},
		{"Allow", newCron("0 * * * *", ran(hour), active(hour)), running, 2 * hour, want{jobs: "+2h", notes: "SuccessfulCreate", active: 2, last: "2h", wake: "3h"}},
		{"Forbid", newCron("0 * * * *", ran(hour), active(hour), policy("Forbid")), running, 2 * hour, want{notes: "JobAlreadyActive", active: 1, last: "1h", wake: "3h"}},
		{"Forbid, told", newCron("0 * * * *", ran(hour), active(hour), policy("Forbid"), told(2*hour)), running, 2*hour + minute,
			want{active: 1, last: "1h", wake: "3h"}},
		{"Forbid: the slot is still owed", newCron("0 * * * *", ran(hour), active(hour), policy("Forbid"), told(2*hour)),
			[]*batchv1.Job{newJob(hour, ended("Complete", 2*hour+minute))}, 2*hour + 2*minute,
			want{jobs: "+2h", notes: "SawCompletedJob SuccessfulCreate", active: 1, last: "2h", wake: "3h"}},
		{"Replace", newCron("0 * * * *", ran(hour), active(hour), policy("Replace")), running, 2 * hour,
			want{jobs: "-1h +2h", notes: "SuccessfulDelete SuccessfulCreate", active: 1, last: "2h", wake: "3h"}},
		{"Replace: a Job that is listed twice", newCron("0 * * * *", ran(hour), active(hour, hour), policy("Replace"), func(c *batchv1.CronJob) { c.Status.Active[1].UID = "x" }),
			running, 2 * hour, want{jobs: "-1h +2h", notes: "SuccessfulDelete SuccessfulCreate", active: 1, last: "2h", wake: "3h"}},
		{"Replace: a Job that history deletes", newCron("0 * * * *", ran(hour), active(hour), policy("Replace"), keep(0), func(c *batchv1.CronJob) { c.Status.Active[0].UID = "x" }),
			[]*batchv1.Job{newJob(hour, ended("Complete", hour))}, 2 * hour,
			want{jobs: "-1h +2h", notes: "SuccessfulDelete SuccessfulCreate", active: 1, last: "2h", wake: "3h"}},
		{"suspended", newCron("0 * * * *", ran(hour), suspended), nil, 2 * hour, want{notes: "CronJobSuspended", last: "1h", wake: "3h"}},
		{"suspended, told", newCron("0 * * * *", ran(hour), suspended, told(2*hour)), nil, 2*hour + minute, want{last: "1h", wake: "3h"}},
		{"resumed: the last slot is owed", newCron("0 * * * *", ran(hour), told(4*hour)), nil, 4*hour + minute,
			want{jobs: "+4h", notes: "SuccessfulCreate", active: 1, last: "4h", wake: "5h"}},
		{"resumed with a deadline", newCron("0 * * * *", ran(hour), told(4*hour), deadline(30)), nil, 4*hour + minute, want{last: "1h", wake: "5h"}},
		{"a Job has ended", newCron("0 * * * *", ran(hour), active(hour)), []*batchv1.Job{newJob(hour, ended("Failed", hour))}, hour + minute,
			want{notes: "SawCompletedJob", last: "1h", wake: "2h"}},
		{"a Job is gone", newCron("0 * * * *", ran(hour), active(hour)), nil, hour + minute, want{notes: "MissingJob", last: "1h", wake: "2h"}},
		{"a Job is not the CronJob's any more", newCron("0 * * * *", ran(hour), active(hour), policy("Forbid")),
			[]*batchv1.Job{newJob(hour, foreign, ended("Complete", hour))}, 2 * hour, want{notes: "JobAlreadyActive", active: 1, last: "1h", wake: "3h"}},
		{"another's Job has the name", newCron("0 * * * *"), []*batchv1.Job{newJob(hour, foreign)}, hour, want{notes: "JobAlreadyExists", wake: "2h"}},
		{"the Job exists, though it is forgotten", newCron("0 * * * *"), []*batchv1.Job{newJob(hour)}, hour,
			want{notes: "UnexpectedJob", active: 1, last: "1h", wake: "2h"}},
		{"the Job exists, and has ended", newCron("0 * * * *"), []*batchv1.Job{newJob(hour, ended("Failed", hour))}, hour, want{active: 1, last: "1h", wake: "2h"}},
		{"the Job exists, and history deletes it", newCron("0 * * * *", keep(0)), []*batchv1.Job{newJob(hour, ended("Complete", hour))}, hour,
			want{jobs: "-1h", notes: "SuccessfulDelete JobAlreadyExists", wake: "2h"}},
		{"twice a minute, and the first has ended", newCron("@every 30s", ran(minute)), []*batchv1.Job{newJob(minute, ended("Failed", minute))}, 90 * time.Second,
			want{active: 1, last: "1m30s", wake: "2m0s"}},
		{"twice a minute", newCron("@every 30s", ran(minute), active(minute)), []*batchv1.Job{newJob(minute)}, 90 * time.Second,
			want{notes: "JobAlreadyExists", active: 1, last: "1m0s", wake: "2m0s"}},
		{"every 90 seconds", newCron("@every 90s", ran(90*time.Second)), nil, 5 * minute, want{jobs: "+4m0s", notes: "MissSchedule SuccessfulCreate", active: 1, last: "4m30s", wake: "6m0s"}},
		{"a Job by hand", newCron("0 * * * *"), []*batchv1.Job{newJob(hour+minute, func(j *batchv1.Job) { j.Status = batchv1.JobStatus{} })}, 30 * minute,
			want{notes: "UnexpectedJob", wake: "1h"}},
		{"being deleted", newCron("0 * * * *", active(hour), beingDeleted), []*batchv1.Job{newJob(hour, ended("Complete", hour))}, 2 * hour, want{notes: "SawCompletedJob"}},
		{"the clock was set back", newCron("0 * * * *", ran(5*hour)), nil, 2 * hour, want{notes: "ClockSetBack", last: "5h", wake: "6h"}},
		{"the clock was set back, told", newCron("0 * * * *", ran(5*hour), told(5*hour)), nil, 2 * hour, want{last: "5h", wake: "6h"}},
		{"the clock was set back since the schedule was changed", newCron("0 * * * *", annotation(ScheduleAnnotation, "0 * * * *||"+t0.Add(50*hour).Format(time.RFC3339))),
			nil, 2 * hour, want{wake: "3h"}},
	})
}

// After the clock was set back, slots that were explained come again, and are
// explained again.
func TestExplainedBeforeTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	s := state(newCron("0 * * * *", ran(hour), suspended, told(50*hour)))
	c := nextCron(s, Decide(t0.Add(2*hour+minute), s))
	if got := reasons(Decide(t0.Add(3*hour), state(c))); got != "CronJobSuspended" {
		t.Errorf("got %q", got)
	}
}

// In a namespace that is being deleted nothing is created; it goes anyway.
func TestTerminatingNamespace(t *testing.T) {
	t.Parallel()
	s := state(newCron("0 * * * *"))
	s.Namespace.DeletionTimestamp = ptr.To(metav1.NewTime(t0))
	if set := Decide(t0.Add(hour), s); !set.Empty() {
		t.Errorf("got %q %q", summary(set), reasons(set))
	}
}

func TestScheduleOfAnotherKind(t *testing.T) {
	t.Parallel()
	was := func(schedule string) func(*batchv1.CronJob) {
		return annotation(ScheduleAnnotation, schedule+"||"+t0.Format(time.RFC3339))
	}
	runCases(t, []decideCase{
		{"changed: earlier slots are not owed", newCron("0 * * * *", was("0 0 * * *")), nil, 5*hour + minute, want{wake: "6h"}},
		{"changed: the next slot is", newCron("0 * * * *", annotation(ScheduleAnnotation, "0 * * * *||"+t0.Add(5*hour+minute).Format(time.RFC3339))), nil, 6 * hour,
			want{jobs: "+6h", notes: "SuccessfulCreate", active: 1, last: "6h", wake: "7h"}},
		{"not parseable", newCron("61 * * * *", was("0 0 * * *")), nil, hour, want{notes: "UnparseableSchedule"}},
		{"never", newCron("0 0 31 2 *"), nil, hour, want{notes: "InvalidSchedule"}},
		{"never, and suspended", newCron("0 0 31 2 *", suspended), nil, hour, want{}},
		{"unknown zone", newCron("0 * * * *", zone("Mars/Base"), was("0 0 * * *")), nil, hour, want{notes: "UnknownTimeZone"}},
		{"zone in the schedule", newCron("TZ=Asia/Seoul 30 16 * * *", was("0 0 * * *")), nil, minute, want{notes: "UnsupportedSchedule", wake: "30m0s"}},
		{"lastScheduleTime set back by hand", newCron("0 0 1 1 *", ran(-365*24*hour), annotation(ScheduleAnnotation, "0 0 1 1 *||")), nil, minute,
			want{jobs: "+-727h", notes: "SuccessfulCreate", active: 1, last: "-727h", wake: "8033h"}},
		{"zone", newCron("30 16 * * *", zone("Asia/Seoul")), nil, 30 * minute, want{jobs: "+30m0s", notes: "SuccessfulCreate", active: 1, last: "30m0s", wake: "24h30m0s"}},
		{"a day of the week or of the month", newCron("0 8 13 * 0"), nil, minute, want{wake: "25h"}},
	})
	for annotation, want := range map[string]string{"": "0 * * * *||", "0 0 * * *||": "0 * * * *||2026-01-31T07:01:00Z"} {
		c := newCron("0 * * * *")
		if c.Annotations[ScheduleAnnotation] = annotation; annotation == "" {
			delete(c.Annotations, ScheduleAnnotation)
		}
		s := state(c)
		if got := nextCron(s, Decide(t0.Add(minute), s)).Annotations[ScheduleAnnotation]; got != want {
			t.Errorf("it keeps %q after %q, want %q", got, annotation, want)
		}
	}
}

func TestCreatedJob(t *testing.T) {
	t.Parallel()
	s := state(newCron("30 16 * * *", zone("Asia/Seoul")))
	set := Decide(t0.Add(30*minute+300*time.Millisecond), s)
	job := set.Writes[0].Object.(*batchv1.Job)
	if job.Name != fmt.Sprintf("nightly-%d", t0.Add(30*minute).Unix()/60) || job.UID != "new-uid" || job.Labels["app"] != "x" || job.Annotations["a"] != "b" {
		t.Errorf("got %+v", job.ObjectMeta)
	}
	if got, want := job.Annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-01-31T16:30:00+09:00"; got != want {
		t.Errorf("it is stamped %s, want %s", got, want)
	}
	if owner := metav1.GetControllerOf(job); owner == nil || owner.UID != "cron-uid" || owner.Kind != "CronJob" || !*owner.BlockOwnerDeletion {
		t.Errorf("it is owned by %+v", job.OwnerReferences)
	}
	// What the API gives to every Job is not the core's to give.
	if !reflect.DeepEqual(job.Spec, s.CronJob.Spec.JobTemplate.Spec) || job.Generation != 0 || !job.CreationTimestamp.IsZero() {
		t.Errorf("it is not as a client would send it: %+v", job)
	}
	next := nextCron(s, set)
	want := corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: "ns", Name: job.Name, UID: "new-uid"}
	if len(next.Status.Active) != 1 || next.Status.Active[0] != want || !next.Status.LastScheduleTime.Time.Equal(t0.Add(30*minute)) {
		t.Errorf("status is %+v", next.Status)
	}
	if n := set.Notes[0]; n.Message != "Created job "+job.Name || n.Component != "cronjob-controller" || n.Regarding.Kind != "CronJob" {
		t.Errorf("the note is %+v", n)
	}
	if len(s.CronJob.Status.Active) != 0 || len(s.CronJob.Spec.JobTemplate.Labels) != 1 || s.CronJob.Spec.JobTemplate.Spec.Selector != nil {
		t.Error("the CronJob that was read was modified")
	}
}

func TestRefusedJob(t *testing.T) {
	t.Parallel()
	s := state(newCron("0 * * * *"))
	s.Refused = errors.New("Job.batch \"x\" is invalid")
	set := Decide(t0.Add(hour), s)
	if got, want := summary(set)+reasons(set), "FailedCreate"; got != want || set.Notes[0].Message != "Error creating job: "+s.Refused.Error() {
		t.Errorf("got %s, want %s; %+v", got, want, set.Notes)
	}
	if next := nextCron(s, set); next.Status.LastScheduleTime != nil || len(next.Status.Active) > 0 || !set.WakeAt.Equal(t0.Add(2*hour)) {
		t.Errorf("status %+v, it wakes at %s", next.Status, set.WakeAt)
	}
	s.CronJob = nextCron(s, set)
	if set = Decide(t0.Add(hour+minute), s); len(set.Notes) > 0 {
		t.Errorf("it is said again: %+v", set.Notes)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	limits := func(ok, failed int32) func(*batchv1.CronJob) {
		return func(c *batchv1.CronJob) {
			keep(ok)(c)
			c.Spec.FailedJobsHistoryLimit = &failed
		}
	}
	noLimits := func(c *batchv1.CronJob) {
		c.Spec.SuccessfulJobsHistoryLimit, c.Spec.FailedJobsHistoryLimit = nil, nil
	}
	neverStarted := func(j *batchv1.Job) { j.Status.StartTime = nil }
	jobs := []*batchv1.Job{
		newJob(3*hour, ended("Complete", 3*hour)), newJob(hour, ended("Complete", hour)), newJob(2*hour, ended("Failed", 2*hour)),
		newJob(4*hour, ended("Failed", 4*hour)), newJob(5 * hour), newJob(0, ended("Complete", 0), neverStarted),
	}
	runCases(t, []decideCase{
		{"within", newCron("0 0 1 1 *", ran(5*hour), limits(3, 2), active(5*hour)), jobs, 6 * hour, want{active: 1, last: "5h", wake: "8033h"}},
		{"the oldest go", newCron("0 0 1 1 *", ran(5*hour), limits(1, 1), active(5*hour)), jobs, 6 * hour,
			want{jobs: "-1h -3h -2h", notes: "SuccessfulDelete SuccessfulDelete SuccessfulDelete", active: 1, last: "5h", wake: "8033h"}},
		{"none is kept", newCron("0 0 1 1 *", ran(5*hour), limits(0, 0), active(3*hour, 5*hour)), jobs, 6 * hour,
			want{jobs: "-1h -3h -0h -2h -4h", notes: "SuccessfulDelete SuccessfulDelete SuccessfulDelete SuccessfulDelete SuccessfulDelete", active: 1, last: "5h", wake: "8033h"}},
		{"no limits", newCron("0 0 1 1 *", ran(5*hour), noLimits, active(5*hour)), jobs, 6 * hour, want{active: 1, last: "5h", wake: "8033h"}},
	})
	s := state(newCron("0 0 1 1 *", ran(5*hour), limits(0, 0)), jobs...)
	if got := nextCron(s, Decide(t0.Add(6*hour), s)).Status.LastSuccessfulTime; got == nil || !got.Time.Equal(t0.Add(3*hour)) {
		t.Errorf("lastSuccessfulTime is %v", got)
	}
}
