package cron

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// bookkeeping drops from status.active the Jobs that have ended or are gone,
// and keeps the time of the last success, of Jobs that were started by hand
// too.
func (d *decision) bookkeeping() {
	for _, ref := range d.status.Active {
		job := d.Job(ref.Name)
		switch {
		case job == nil || job.UID != ref.UID:
			d.note(corev1.EventTypeNormal, "MissingJob", "Active job went missing: "+ref.Name)
		case finished(job) != "":
			d.note(corev1.EventTypeNormal, "SawCompletedJob",
				"Saw completed job: "+job.Name+", condition: "+string(finished(job)))
		default:
			continue
		}
		d.inactive(ref)
	}
	for _, job := range d.Jobs {
		end := job.Status.CompletionTime
		if last := d.status.LastSuccessfulTime; end != nil && finished(job) == batchv1.JobComplete && (last == nil || end.After(last.Time)) {
			d.status.LastSuccessfulTime, d.changed = end, true
		}
	}
}

func (d *decision) inactive(ref corev1.ObjectReference) {
	d.active = slices.DeleteFunc(d.active, func(r corev1.ObjectReference) bool { return r.UID == ref.UID })
}

// unexpected warns of Jobs that run for this CronJob, but were started by
// somebody else: it does not wait for them. They are mentioned when they are
// new, and whenever there is other news.
func (d *decision) unexpected() {
	for _, job := range d.Jobs {
		isNew := job.Status.StartTime == nil && len(job.Status.Conditions) == 0
		if finished(job) != "" || job.DeletionTimestamp != nil || !isNew && !d.changed {
			continue
		}
		if !slices.ContainsFunc(d.status.Active, func(r corev1.ObjectReference) bool { return r.UID == job.UID }) {
			d.note(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: "+job.Name)
		}
	}
}

// history deletes the oldest finished Jobs beyond the limits.
func (d *decision) history() {
	for _, end := range []struct {
		condition batchv1.JobConditionType
		limit     *int32
	}{
		{batchv1.JobComplete, d.CronJob.Spec.SuccessfulJobsHistoryLimit},
		{batchv1.JobFailed, d.CronJob.Spec.FailedJobsHistoryLimit},
	} {
		if end.limit == nil {
			continue
		}
		var jobs []*batchv1.Job
		for _, job := range d.Jobs {
			if job.DeletionTimestamp == nil && finished(job) == end.condition {
				jobs = append(jobs, job)
			}
		}
		slices.SortFunc(jobs, byStart)
		for _, job := range jobs[:max(0, len(jobs)-int(*end.limit))] {
			d.remove(job)
		}
	}
}

// byStart orders Jobs by when they started, those that never did last.
func byStart(a, b *batchv1.Job) int {
	switch x, y := a.Status.StartTime, b.Status.StartTime; {
	case x == nil && y != nil:
		return 1
	case x != nil && y == nil:
		return -1
	case x.Equal(y):
		return strings.Compare(a.Name, b.Name)
	case x.Before(y):
		return -1
	}
	return 1
}

// remove deletes a Job as a DELETE with background propagation does.
func (d *decision) remove(job *batchv1.Job) {
	if w, ok := d.JobKind.Removal(job, change.RevOf(job), d.now, nil); ok {
		d.set.Writes = append(d.set.Writes, w)
		d.note(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job "+job.Name)
	}
}

// start creates the Job of a slot; with Replace in place of those that run.
func (d *decision) start(slot time.Time, name string) {
	if d.CronJob.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, ref := range slices.Clone(d.active) {
			d.remove(d.Job(ref.Name)) // bookkeeping dropped those that are gone
			d.inactive(ref)
		}
	}
	job := d.newJob(slot, name)
	d.set.Create(change.Key{Resource: "jobs.batch", Namespace: job.Namespace, Name: name}, job)
	d.note(corev1.EventTypeNormal, "SuccessfulCreate", "Created job "+name)
	d.active = append(d.active, corev1.ObjectReference{
		APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: name, UID: d.UID,
	})
	d.setLastSchedule(slot)
}

// newJob returns the Job of a slot, as the API would make it of the template.
func (d *decision) newJob(slot time.Time, name string) *batchv1.Job {
	c := d.CronJob
	template := &c.Spec.JobTemplate
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: c.Namespace, Name: name, UID: d.UID,
		CreationTimestamp: metav1.NewTime(d.now.Truncate(time.Second)),
		Labels:            maps.Clone(template.Labels),
		Annotations:       maps.Clone(template.Annotations),
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "batch/v1", Kind: "CronJob", Name: c.Name, UID: c.UID,
			Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
		}},
	}}
	if job.Annotations == nil {
		job.Annotations = make(map[string]string, 1)
	}
	stamp := slot.UTC()
	if c.Spec.TimeZone != nil {
		stamp = slot // which is in that zone
	}
	job.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = stamp.Format(time.RFC3339)
	template.Spec.DeepCopyInto(&job.Spec)
	d.JobKind.Default(job)
	d.JobKind.PrepareCreate(job)
	return job
}

// jobName derives the name of a slot's Job: a slot cannot be started twice.
func jobName(c *batchv1.CronJob, slot time.Time) string {
	return c.Name + "-" + strconv.FormatInt(slot.Unix()/60, 10)
}

// finished returns Complete or Failed when the Job is, else "".
func finished(job *batchv1.Job) batchv1.JobConditionType {
	for i := range job.Status.Conditions {
		if c := &job.Status.Conditions[i]; c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return c.Type
		}
	}
	return ""
}

func cronKey(c *batchv1.CronJob) change.Key {
	return change.Key{Resource: "cronjobs.batch", Namespace: c.Namespace, Name: c.Name}
}
