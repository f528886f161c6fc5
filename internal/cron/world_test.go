package cron

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
)

// world is a store as plain as can be, with one CronJob in it and an engine
// that wakes when it was asked to, or when something changed.
type world struct {
	now     time.Time
	objects map[change.Key]change.Object
	rev     uint64
	wakeAt  time.Time
	dirty   bool
}

// result is what one decision did.
type result struct {
	now      time.Time
	set      change.Set
	before   *batchv1.CronJob
	after    *batchv1.CronJob
	started  []time.Time // slots
	notes    []change.Note
	unchosen bool // the set was refused
}

func newWorld(c *batchv1.CronJob) *world {
	w := &world{now: c.CreationTimestamp.Time, objects: make(map[change.Key]change.Object), rev: 100, dirty: true}
	delete(c.Annotations, ScheduleAnnotation)
	w.store(cronKey(c), c)
	return w
}

func (w *world) store(key change.Key, obj change.Object) {
	w.rev++
	obj.SetResourceVersion(strconv.FormatUint(w.rev, 10))
	w.objects[key] = obj
	w.dirty = true
}

func (w *world) cron() *batchv1.CronJob {
	return w.objects[change.Key{Resource: "cronjobs.batch", Namespace: "ns", Name: "nightly"}].(*batchv1.CronJob)
}

// jobs returns the Jobs by name.
func (w *world) jobs() []*batchv1.Job {
	var out []*batchv1.Job
	for _, obj := range w.objects {
		if j, ok := obj.(*batchv1.Job); ok {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, func(a, b *batchv1.Job) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (w *world) view() State {
	s := state(w.cron(), w.jobs()...)
	s.UID = types.UID(fmt.Sprint("uid-", w.rev))
	return s
}

// sleepUntil lets time pass; the engine looks when it asked to be woken.
func (w *world) sleepUntil(t time.Time, see func(result)) {
	for {
		w.settle(see)
		if w.wakeAt.IsZero() || w.wakeAt.After(t) {
			break
		}
		w.now = later(w.now, w.wakeAt)
		w.dirty = true
	}
	w.now = later(w.now, t)
}

// settle decides until there is nothing left to do now.
func (w *world) settle(see func(result)) {
	for n := 0; w.dirty; n++ {
		if n > 10 {
			panic(fmt.Sprintf("it does not come to rest at %s", w.now))
		}
		see(w.decide(w.view(), w.now))
	}
}

// decide takes one decision, made from view, and applies it.
func (w *world) decide(view State, now time.Time) result {
	set := Decide(now, view)
	r := result{now: now, set: set, before: view.CronJob, notes: set.Notes}
	r.unchosen = !w.apply(set)
	r.after = w.cron()
	if r.unchosen {
		r.notes = nil
		return r
	}
	w.dirty, w.wakeAt = len(set.Writes) > 0, set.WakeAt
	for _, x := range set.Writes {
		if j, ok := x.Object.(*batchv1.Job); ok && x.Op == change.Create {
			slot, err := time.Parse(time.RFC3339, j.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
			if err != nil {
				panic(err)
			}
			r.started = append(r.started, slot)
		}
	}
	return r
}

// apply commits a set whole, or not at all.
func (w *world) apply(set change.Set) bool {
	at := func(key change.Key) uint64 {
		if obj := w.objects[key]; obj != nil {
			return change.RevOf(obj)
		}
		return 0
	}
	for _, x := range set.Writes {
		if at(x.Key) != x.Rev {
			return false
		}
	}
	for _, g := range set.Guards {
		if at(g.Key) != g.Rev {
			return false
		}
	}
	for _, x := range set.Writes {
		if x.Op == change.Delete {
			w.rev++
			delete(w.objects, x.Key)
			continue
		}
		w.store(x.Key, x.Object)
	}
	return true
}

// edit writes a changed CronJob, as a user does.
func (w *world) edit(f func(*batchv1.CronJob)) {
	c := w.cron().DeepCopy()
	f(c)
	c.Generation++
	w.store(cronKey(c), c)
}

// finish ends a Job.
func (w *world) finish(j *batchv1.Job, as batchv1.JobConditionType) {
	j = j.DeepCopy()
	t := metav1.NewTime(w.now.Truncate(time.Second))
	j.Status.Active = 0
	j.Status.Conditions = []batchv1.JobCondition{{Type: as, Status: corev1.ConditionTrue, LastTransitionTime: t}}
	if as == batchv1.JobComplete {
		j.Status.CompletionTime = &t
	}
	w.store(change.Key{Resource: "jobs.batch", Namespace: j.Namespace, Name: j.Name}, j)
}
