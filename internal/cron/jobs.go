package cron

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// bookkeeping drops from status.active the Jobs that have ended or are gone,
// and keeps the time of the last success, of Jobs that were started by hand
// too.
func (d *decision) bookkeeping() {
	for _, ref := range slices.Clone(d.active) {
		job := d.Job(ref.Name)
		switch {
		case job == nil:
			d.note(corev1.EventTypeNormal, "MissingJob", "Active job went missing: "+ref.Name)
		case job.UID == ref.UID && metav1.IsControlledBy(job, d.CronJob) && finished(job) != "":
			d.note(corev1.EventTypeNormal, "SawCompletedJob",
				"Saw completed job: "+job.Name+", condition: "+string(finished(job)))
		default:
			// A Job that is not the CronJob's any more stays, as in Kubernetes, as
			// long as there is one of that name.
			continue
		}
		d.inactive(ref.UID)
	}
	for _, job := range d.Jobs {
		end := job.Status.CompletionTime
		if last := d.status.LastSuccessfulTime; end != nil && finished(job) == batchv1.JobComplete && (last == nil || end.After(last.Time)) {
			d.status.LastSuccessfulTime, d.changed = end, true
		}
	}
}

func (d *decision) inactive(uid types.UID) {
	d.active = slices.DeleteFunc(d.active, func(r corev1.ObjectReference) bool { return r.UID == uid })
}

// unexpected warns of Jobs that run for this CronJob, but were started by
// somebody else: it does not wait for them.
func (d *decision) unexpected() {
	for _, job := range d.Jobs {
		known := slices.ContainsFunc(d.status.Active, func(r corev1.ObjectReference) bool { return r.UID == job.UID })
		if !known && finished(job) == "" {
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
			if finished(job) == end.condition {
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
	d.inactive(job.UID)
	if w, ok := d.JobKind.Removal(job, change.RevOf(job), d.now, nil); ok {
		d.set.Writes = append(d.set.Writes, w)
		d.note(corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job "+job.Name)
	}
}

// writes: the set writes under key already. A status.active that a client wrote
// can name a Job more than once, or one that history deletes.
func (d *decision) writes(key change.Key) bool {
	return slices.ContainsFunc(d.set.Writes, func(w change.Write) bool { return w.Key == key })
}

// start creates the Job of a slot; with Replace in place of those that run.
func (d *decision) start(slot time.Time, name string) {
	if d.CronJob.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, ref := range slices.Clone(d.active) {
			if job := d.Job(ref.Name); !d.writes(d.JobKind.KeyOf(job)) { // bookkeeping dropped those that are gone
				d.remove(job)
			}
			d.inactive(ref.UID)
		}
	}
	if d.Job(name) != nil {
		// Also when it is the CronJob's: slots of one minute share a name.
		d.explain(slot, corev1.EventTypeWarning, "JobAlreadyExists", "Not starting job because there is one of that name: "+name)
		return
	}
	job := d.newJob(slot, name)
	if errs := d.JobKind.Validate(job); len(errs) > 0 { // not all of a template is checked before
		err := apierrors.NewInvalid(d.JobKind.GVK.GroupKind(), name, errs)
		d.explain(slot, corev1.EventTypeWarning, "FailedCreate", "Error creating job: "+err.Error())
		return
	}
	d.set.Create(change.Key{Resource: "jobs.batch", Namespace: job.Namespace, Name: name}, job)
	d.set.Guards = append(d.set.Guards, change.Guard{Key: change.Key{Resource: "namespaces", Name: job.Namespace}, Rev: change.RevOf(d.Namespace)})
	d.note(corev1.EventTypeNormal, "SuccessfulCreate", "Created job "+name)
	d.active = append(d.active, corev1.ObjectReference{
		APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: name, UID: d.UID,
	})
	t := metav1.NewTime(slot)
	d.status.LastScheduleTime, d.changed = &t, true
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
	if end := kind.JobEnd(job); end != nil {
		return end.Type
	}
	return ""
}

func cronKey(c *batchv1.CronJob) change.Key {
	return change.Key{Resource: "cronjobs.batch", Namespace: c.Namespace, Name: c.Name}
}
