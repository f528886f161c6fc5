package cron

import (
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// write turns a decision into the set that carries it out.
func write(now time.Time, s State, c census, r reading, p plan) change.Set {
	w := writer{now: now, s: s}
	w.delete(c.expired)
	w.note(c.left...)
	w.note(r.complaints...)
	w.note(p.missed...)
	w.delete(slices.DeleteFunc(p.replaced, func(j *batchv1.Job) bool { return has(c.expired, j.UID) }))
	w.create(p.job)
	w.note(p.notes...)
	for _, job := range c.unexpected {
		w.note(warning(reason.UnexpectedJob, "Saw a job that the controller did not create or forgot: "+job.Name))
	}
	w.set.Wake(p.wakeAt)
	w.update(c, r, p)
	return w.set
}

// writer fills a set.
type writer struct {
	set change.Set
	now time.Time
	s   State
}

// delete deletes Jobs as a DELETE with background propagation does.
func (w *writer) delete(jobs []*batchv1.Job) {
	for _, job := range jobs {
		if deletion, ok := w.s.JobKind.Removal(job, change.RevOf(job), w.now, nil); ok {
			w.set.Writes = append(w.set.Writes, deletion)
			w.note(normal(reason.SuccessfulDelete, "Deleted job "+job.Name))
		}
	}
}

func (w *writer) create(job *batchv1.Job) {
	if job == nil {
		return
	}
	w.set.Create(kind.Jobs.Key(job.Namespace, job.Name), job)
	w.set.Guards = append(w.set.Guards, change.Guard{
		Key: kind.Namespaces.Key("", job.Namespace), Rev: change.RevOf(w.s.Namespace),
	})
	w.note(normal(reason.SuccessfulCreate, "Created job "+job.Name))
}

// update writes the CronJob's new state, if it is one; else the set depends on the
// CronJob being as it was read.
func (w *writer) update(c census, r reading, p plan) {
	old := w.s.CronJob
	next := *old
	started := !p.slot.IsZero()
	if started {
		next.Status.LastScheduleTime = ptr.To(metav1.NewTime(p.slot))
	}
	next.Status.LastSuccessfulTime = c.lastSuccess
	if !slices.Equal(p.active, old.Status.Active) {
		next.Status.Active = p.active
	}
	next.Annotations = annotate(old.Annotations, ScheduleAnnotation, r.mark)
	next.Annotations = annotate(next.Annotations, ExplainedAnnotation, explainedUntil(p.explained, next.Status.LastScheduleTime))
	rev, key := change.RevOf(old), cronKey(old)
	switch {
	case started, next.Status.LastSuccessfulTime != old.Status.LastSuccessfulTime,
		!slices.Equal(next.Status.Active, old.Status.Active), !maps.Equal(next.Annotations, old.Annotations):
		w.set.Update(key, rev, &next)
	case len(w.set.Writes) > 0:
		w.set.Guards = append(w.set.Guards, change.Guard{Key: key, Rev: rev})
	}
}

// explainedUntil is the next value of ExplainedAnnotation: none when all slots up
// to then were started.
func explainedUntil(at time.Time, last *metav1.Time) string {
	if at.IsZero() || last != nil && at.Before(last.Time) {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// annotate returns annotations with another value for key; "" removes it.
func annotate(annotations map[string]string, key, value string) map[string]string {
	if annotations[key] == value {
		return annotations
	}
	next := maps.Clone(annotations)
	if next == nil {
		next = make(map[string]string)
	}
	next[key] = value
	if value == "" {
		delete(next, key)
	}
	return next
}

// note leaves events about the CronJob.
func (w *writer) note(notes ...note) {
	c := w.s.CronJob
	for _, n := range notes {
		w.set.Note(change.Note{
			Regarding: corev1.ObjectReference{
				APIVersion: "batch/v1", Kind: "CronJob", Namespace: c.Namespace, Name: c.Name,
				UID: c.UID, ResourceVersion: c.ResourceVersion,
			},
			Component: Component, Type: n.eventType, Reason: n.reason, Message: n.message,
		})
	}
}

// jobOf returns the Job of a slot, as a client would write it.
func jobOf(s State, slot time.Time, name string) *batchv1.Job {
	c := s.CronJob
	template := &c.Spec.JobTemplate
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: c.Namespace, Name: name, UID: s.UID,
		Labels:      maps.Clone(template.Labels),
		Annotations: maps.Clone(template.Annotations),
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
	return job
}

// jobName derives the name of a slot's Job: a slot cannot be started twice.
func jobName(c *batchv1.CronJob, slot time.Time) string {
	return c.Name + "-" + strconv.FormatInt(slot.Unix()/60, 10)
}

func cronKey(c *batchv1.CronJob) change.Key {
	return kind.CronJobs.Key(c.Namespace, c.Name)
}
