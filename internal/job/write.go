package job

import (
	"maps"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
	"github.com/sampan-batch/sampan/internal/reason"
)

// decision is what has been found out and made up about a Job, each on the grounds
// of those before it.
type decision struct {
	census
	progress
	verdict
	plan
	account
}

// write turns a decision into the set that carries it out.
func write(now time.Time, s State, d decision) change.Set {
	w := writer{now: now, s: s, owner: d.owner, adopted: maps.Clone(d.adopted)}
	more := w.letGo(d.unmatched) || d.plan.more || d.account.more
	if len(d.index.fresh) > 0 {
		w.note(warning(reason.IndexFailed, "Not retrying "+naming(d.index.fresh)+": failed for good"))
	}
	lingering := w.delete(d.remove)
	w.note(d.plan.notes...)
	w.create(d.plan, d.index.held)
	st := d.nextStatus(now, lingering)
	if d.verdict.none() {
		w.note(suspend(&st, s.Job, now)...)
	}
	for _, e := range d.entries {
		if e.as != lostFailure { // which delete has released
			w.release(e.pod)
		}
		if e.note != nil {
			w.note(*e.note)
		}
	}
	more = w.adoptRest(s.Pods) || more
	w.note(d.verdict.record(&st, s.Job, now, more)...)
	w.set.Wake(d.plan.wakeAt)
	if more {
		w.set.Wake(now)
	}
	old := s.Job.Annotations[BackoffAnnotation]
	text, waits := d.backoffText(now, old, more)
	w.note(waits...)
	w.update(&st, old, text)
	return w.set
}

// writer fills a set, and keeps in mind who is still to be adopted.
type writer struct {
	set     change.Set
	now     time.Time
	s       State
	owner   podset.Owner
	adopted map[*corev1.Pod]bool
}

// letGo releases the pods that the selector no longer matches, and reports whether
// more are left than fit a set. When the Job is being deleted they stay the Job's,
// but it must not have to wait for them.
func (w *writer) letGo(pods []*corev1.Pod) (more bool) {
	for _, pod := range pods {
		switch {
		case w.s.Job.DeletionTimestamp == nil:
			if len(w.set.Writes) == batch {
				return true
			}
			w.put(pod, w.owner.Release(pod))
			w.note(normal(reason.PodReleased, "Released pod "+pod.Name+": its labels do not match the selector any more"))
		case tracked(pod):
			w.release(pod)
		}
	}
	return false
}

// own returns a copy of the pod, as the Job's own if it is being adopted.
func (w *writer) own(pod *corev1.Pod) *corev1.Pod {
	if !w.adopted[pod] {
		next := *pod
		return &next
	}
	delete(w.adopted, pod)
	w.note(normal(reason.PodAdopted, "Adopted pod "+pod.Name+": it has no owner, and its labels match the selector"))
	return w.owner.Adopt(pod)
}

// adoptRest writes the adopted pods that nothing else is done about, and reports
// whether more are left than fit a set.
func (w *writer) adoptRest(pods []*corev1.Pod) (more bool) {
	for n, i := 0, 0; i < len(pods) && len(w.adopted) > 0; i++ {
		if pod := pods[i]; w.adopted[pod] {
			if n++; n > batch {
				return true
			}
			w.put(pod, w.own(pod))
		}
	}
	return false
}

// release takes the tracking finalizer off a pod that is accounted for, or
// that nobody will account for.
func (w *writer) release(pod *corev1.Pod) {
	next := w.own(pod)
	next.Finalizers = w.owner.Untracked(pod)
	w.put(pod, next)
}

// put writes next over pod.
func (w *writer) put(pod, next *corev1.Pod) {
	w.set.Writes = append(w.set.Writes, w.s.PodKind.Settle(change.Write{
		Op: change.Update, Key: kind.Pods.Key(pod.Namespace, pod.Name), Rev: change.RevOf(pod), Object: next,
	}))
}

// delete deletes active pods, and releases them. It returns how many of them stay
// for a while as terminating.
func (w *writer) delete(pods []*corev1.Pod) (lingering int32) {
	for _, pod := range pods {
		next := w.own(pod)
		next.Finalizers = w.owner.Untracked(pod)
		w.note(normal(reason.SuccessfulDelete, "Deleted pod: "+pod.Name))
		// An active pod's deletion has not begun, so that it always does now.
		deletion, _ := w.s.PodKind.Removal(next, change.RevOf(pod), w.now, nil)
		if deletion.Op == change.Update {
			lingering++
		}
		w.set.Writes = append(w.set.Writes, deletion)
	}
	return lingering
}

// create creates the pods that the plan starts. prior has the failed pods that they
// take the place of.
func (w *writer) create(pl plan, prior map[int32]*corev1.Pod) {
	for _, index := range pl.start {
		pod := podOfIndex(w.s.Job, w.owner.Make(), index, prior[index])
		w.set.Create(kind.Pods.Key(pod.Namespace, ""), pod)
		created := event(w.s.Job, normal(reason.SuccessfulCreate, "Created pod: "))
		created.NameOf = pod
		w.set.Note(created)
	}
}

// update writes the Job's new state, if it is one; else the set depends on the Job
// being as it was read.
func (w *writer) update(st *batchv1.JobStatus, oldBackoff, backoff string) {
	job := w.s.Job
	if backoff == oldBackoff && sameStatus(st, &job.Status) {
		w.guardJob()
		return
	}
	next := *job
	next.Status = *st
	if backoff != oldBackoff {
		next.Annotations = maps.Clone(job.Annotations)
		if next.Annotations == nil {
			next.Annotations = make(map[string]string, 1)
		}
		next.Annotations[BackoffAnnotation] = backoff
		if backoff == "" {
			delete(next.Annotations, BackoffAnnotation)
		}
	}
	w.set.Update(jobKey(job), change.RevOf(job), &next)
}

func (w *writer) guardJob() {
	if len(w.set.Writes) > 0 {
		w.set.Guards = append(w.set.Guards, change.Guard{Key: jobKey(w.s.Job), Rev: change.RevOf(w.s.Job)})
	}
}

// note leaves events about the Job.
func (w *writer) note(notes ...note) {
	for _, n := range notes {
		w.set.Note(event(w.s.Job, n))
	}
}

func event(job *batchv1.Job, n note) change.Note {
	return change.Note{
		Regarding: corev1.ObjectReference{
			APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: job.Name,
			UID: job.UID, ResourceVersion: job.ResourceVersion,
		},
		Component: Component, Type: n.eventType, Reason: n.reason, Message: n.message,
	}
}

// naming says which indexes are meant, in a length that suits an event.
func naming(indexes Indexes) string {
	text := indexes.String()
	if indexes.Len() == 1 {
		return "index " + text
	}
	if len(text) > 200 {
		text = text[:strings.LastIndexByte(text[:200], ',')] + ",…"
	}
	return "indexes " + text
}
