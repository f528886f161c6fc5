package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// Reporter tells the log of runs: a line when a Job has started and one when it has ended, with
// how that was and what comes next. Failures are warnings, the rest is information.
type Reporter struct {
	Store *store.Store
	Log   *slog.Logger

	zones zoneCache
}

// Run reports until ctx ends. What happens while it has fallen behind is not told.
func (r *Reporter) Run(ctx context.Context) error {
	r.zones = zoneCache{load: time.LoadLocation, now: time.Now}
	if !r.Log.Enabled(ctx, slog.LevelWarn) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		w, err := r.Store.Watch(kind.Jobs, r.Store.View().Rev())
		for err == nil {
			var events []store.Event
			if events, _, err = w.Next(ctx); err != nil {
				break
			}
			view, now := r.Store.View(), time.Now()
			for _, ev := range events {
				r.report(view, now, ev)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, store.ErrGone) {
			return err
		}
		r.Log.Warn("too much happened at once to be told of")
	}
}

// report tells what a write says of a run.
func (r *Reporter) report(view change.View, now time.Time, ev change.Event) {
	job := ev.Object.(*batchv1.Job)
	prev, _ := ev.Prev.(*batchv1.Job)
	had := func(types ...batchv1.JobConditionType) bool {
		return prev != nil && kind.JobCondition(&prev.Status, types...) != nil
	}
	end := kind.JobCondition(&job.Status, batchv1.JobComplete, batchv1.JobFailed)
	line := runLine{log: r.Log, job: job}
	ended := func(level slog.Level, what, text, reason string) {
		line.next = r.next(view, now, job)
		line.tell(level, what, text, reason)
	}
	switch {
	case ev.Op == change.Delete:
		if end == nil && job.Status.StartTime != nil {
			ended(slog.LevelInfo, "deleted", "deleted before it has ended", "")
		}
	case end != nil && had(batchv1.JobComplete, batchv1.JobFailed):
	case end != nil && end.Type == batchv1.JobComplete:
		ended(slog.LevelInfo, "complete", "complete"+took(job, end), "")
	case end != nil:
		failure := lastFailure(view, job)
		why := cmp.Or(failure.text, end.Message)
		line.code = failure.code
		ended(slog.LevelWarn, "failed", fmt.Sprintf("FAILED: %s (%s)", why, end.Reason), end.Reason)
	case job.Status.StartTime != nil && (prev == nil || prev.Status.StartTime == nil):
		line.tell(slog.LevelInfo, "started", "started", "")
	}
}

// took says how long a Job took.
func took(job *batchv1.Job, end *batchv1.JobCondition) string {
	if job.Status.StartTime == nil {
		return ""
	}
	return " after " + end.LastTransitionTime.Sub(job.Status.StartTime.Time).Round(time.Second).String()
}

// next is when the CronJob of a Job starts another one; zero if none does.
func (r *Reporter) next(view change.View, now time.Time, job *batchv1.Job) time.Time {
	owner := metav1.GetControllerOfNoCopy(job)
	if owner == nil || owner.Kind != "CronJob" {
		return time.Time{}
	}
	obj, ok := view.Get(kind.CronJobs.Key(job.Namespace, owner.Name))
	if !ok {
		return time.Time{}
	}
	c := obj.(*batchv1.CronJob)
	if c.Spec.Suspend != nil && *c.Spec.Suspend || c.DeletionTimestamp != nil {
		return time.Time{}
	}
	table, err := cron.TimetableOf(c, r.zones.find, time.Local)
	if err != nil {
		return time.Time{}
	}
	return table.Next(now)
}

// failure is how a container failed.
type failure struct {
	text string
	code *int32
}

// lastFailure finds how the container of a Job failed that failed last, among the pods that
// are still there.
func lastFailure(view change.View, job *batchv1.Job) (last failure) {
	var at time.Time
	for _, obj := range view.Owned(job.UID) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			continue
		}
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			t := cmp.Or(s.State.Terminated, s.LastTerminationState.Terminated)
			if t == nil || t.ExitCode == 0 || t.FinishedAt.Time.Before(at) {
				continue
			}
			at = t.FinishedAt.Time
			last = failure{fmt.Sprintf("%s exited with %d", s.Name, t.ExitCode), &t.ExitCode}
		}
	}
	return last
}

// runLine is a line about a run. Whatever is in it that others have written, the log's handler
// quotes.
type runLine struct {
	log  *slog.Logger
	job  *batchv1.Job
	next time.Time
	code *int32
}

func (l *runLine) tell(level slog.Level, what, text, reason string) {
	attrs := []slog.Attr{slog.String("ns", l.job.Namespace), slog.String("run", what)}
	if reason != "" {
		attrs = append(attrs, slog.String("reason", reason))
	}
	if l.code != nil {
		attrs = append(attrs, slog.Int("exitCode", int(*l.code)))
	}
	if !l.next.IsZero() {
		text += "; next " + clock(l.next, time.Now())
		attrs = append(attrs, slog.Time("next", l.next))
	}
	l.log.LogAttrs(context.Background(), level, "job/"+l.job.Name+" "+text, attrs...)
}

// clock is a time to come, with its day if that is another.
func clock(at, now time.Time) string {
	if at = at.Local(); at.Format(time.DateOnly) == now.Local().Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
}
