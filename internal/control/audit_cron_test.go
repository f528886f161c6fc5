package control

import (
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// checkSlot: a slot's Job is started once, in time, alone if it must be, and at
// once if nothing stood in the way.
func (a *audit) checkSlot(j *batchv1.Job) {
	stamp := j.Annotations[batchv1.CronJobScheduledTimestampAnnotation]
	ref := metav1.GetControllerOf(j)
	if stamp == "" || ref == nil {
		return
	}
	c, _ := a.objects[change.Key{Resource: kind.CronJobs, Namespace: j.Namespace, Name: ref.Name}].(*batchv1.CronJob)
	slot, err := time.Parse(time.RFC3339, stamp)
	if err != nil || c == nil || c.UID != ref.UID {
		a.fail("%s is started at %q by a CronJob that is not there", j.Name, stamp)
		return
	}
	started := a.started[c.UID]
	if started == nil {
		started = make(map[string]types.UID)
		a.started[c.UID] = started
	}
	at := slot.UTC().String()
	now, deadline, last := a.world.now(), c.Spec.StartingDeadlineSeconds, c.Status.LastScheduleTime
	switch {
	case started[at] != "":
		a.fail("%s of %s is started again", at, c.Name)
	case j.Name != fmt.Sprintf("%s-%d", c.Name, slot.Unix()/60):
		a.fail("the Job of %s is called %s", at, j.Name)
	case slot.After(now):
		a.fail("%s is started early, at %s", j.Name, now)
	case deadline != nil && now.Sub(slot) > time.Duration(*deadline)*time.Second:
		a.fail("%s is started at %s, its deadline is %ds", j.Name, now, *deadline)
	case *c.Spec.Suspend || c.DeletionTimestamp != nil:
		a.fail("%s is started by a CronJob that is suspended or being deleted", j.Name)
	case last != nil && !slot.After(last.Time):
		a.fail("%s is started after %s", j.Name, last)
	case !isSlot(&c.Spec, slot):
		a.fail("%s is started at %s, which is no slot of %q", j.Name, at, c.Spec.Schedule)
	}
	started[at] = j.UID
	a.checkAlone(c, j)
	if slot.After(a.touched[c.UID]) && slot.After(a.upset) {
		if a.latest = max(a.latest, now.Sub(slot)); now.Sub(slot) > 100*time.Millisecond {
			a.fail("%s is started %s late", j.Name, now.Sub(slot))
		}
	}
}

// checkAlone: with Forbid no other slot's Job is there that has not ended, with
// Replace none that is not being deleted.
func (a *audit) checkAlone(c *batchv1.CronJob, j *batchv1.Job) {
	for _, obj := range a.objects {
		other, ok := obj.(*batchv1.Job)
		if !ok || finishedAs(other) != "" || !metav1.IsControlledBy(other, c) || other.Annotations[batchv1.CronJobScheduledTimestampAnnotation] == "" {
			continue
		}
		switch c.Spec.ConcurrencyPolicy {
		case batchv1.ForbidConcurrent:
			a.fail("%s is started beside %s", j.Name, other.Name)
		case batchv1.ReplaceConcurrent:
			if other.DeletionTimestamp == nil {
				a.fail("%s is started, and %s is left", j.Name, other.Name)
			}
		}
	}
}

// isSlot: the schedule has that slot. (Those of @every count from the last.)
func isSlot(spec *batchv1.CronJobSpec, slot time.Time) bool {
	schedule, err := kind.ParseSchedule(spec.Schedule)
	if err != nil || strings.HasPrefix(spec.Schedule, "@every") {
		return err == nil
	}
	zone := time.Local
	if spec.TimeZone != nil {
		if zone, err = time.LoadLocation(*spec.TimeZone); err != nil {
			return false
		}
	}
	return schedule.Next(slot.Add(-time.Second).In(zone)).Equal(slot)
}

func (a *audit) seeCronJob(ev store.Event, c *batchv1.CronJob) {
	a.touched[c.UID] = a.world.now()
	if old, ok := ev.Prev.(*batchv1.CronJob); ok {
		if was, is := old.Status.LastScheduleTime, c.Status.LastScheduleTime; was != nil && (is == nil || is.Before(was)) {
			a.fail("lastScheduleTime of %s goes from %v to %v", c.Name, was, is)
		}
	}
}

// checkHistory: no more finished Jobs are kept than the limits say, and what is
// active has not ended.
func (a *audit) checkHistory(view *store.View, c *batchv1.CronJob) {
	kept := make(map[batchv1.JobConditionType]int32)
	for _, obj := range view.Owned(c.UID) {
		if j, ok := obj.(*batchv1.Job); ok && j.DeletionTimestamp == nil && metav1.IsControlledBy(j, c) {
			kept[finishedAs(j)]++
		}
	}
	if kept[batchv1.JobComplete] > *c.Spec.SuccessfulJobsHistoryLimit || kept[batchv1.JobFailed] > *c.Spec.FailedJobsHistoryLimit {
		a.fail("%s keeps %v finished Jobs", c.Name, kept)
	}
	for _, ref := range c.Status.Active {
		obj, ok := view.Get(change.Key{Resource: kind.Jobs, Namespace: c.Namespace, Name: ref.Name})
		if !ok || obj.GetUID() != ref.UID || finishedAs(obj.(*batchv1.Job)) != "" {
			a.fail("%s is active in %s, but has ended or is gone", ref.Name, c.Name)
		}
	}
}

func cronOf(j *batchv1.Job) types.UID {
	if ref := metav1.GetControllerOf(j); ref != nil {
		return ref.UID
	}
	return ""
}
