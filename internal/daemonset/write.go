package daemonset

import (
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// write turns a decision into the set that carries it out.
func write(now time.Time, s State, c census, r record, p plan) change.Set {
	w := writer{now: now, s: s, next: make(map[*corev1.Pod]*corev1.Pod)}
	r.book.Write(&w.set, s.RevisionKind, now)
	for _, pod := range c.adopted {
		w.next[pod] = c.owner.Adopt(pod)
	}
	for _, pod := range c.unmatched {
		w.put(pod, c.owner.Release(pod))
	}
	w.rename(c, r)
	for _, n := range p.notes {
		w.note(n)
	}
	gone := w.delete(p.remove)
	for _, pod := range c.pods {
		if next := w.next[pod]; next != nil {
			w.put(pod, next)
		}
	}
	for _, node := range p.start {
		w.create(c, r, node)
	}
	st := statusOf(now, c, r, &p, gone)
	w.update(st, p.backoff.String())
	w.set.Wake(p.wakeAt)
	if p.more {
		w.set.Wake(now)
	}
	return w.set
}

// writer fills a set. next has the pods that are changed, as they are to be.
type writer struct {
	set  change.Set
	now  time.Time
	s    State
	next map[*corev1.Pod]*corev1.Pod
}

// rename gives pods the label of the revision that stays, of several of one template.
func (w *writer) rename(c census, r record) {
	for _, pod := range c.pods {
		to, renamed := r.renamed[pod.Labels[hashLabel]]
		if !renamed {
			continue
		}
		next := *w.own(pod)
		next.Labels = maps.Clone(pod.Labels)
		next.Labels[hashLabel] = to
		w.next[pod] = &next
	}
}

// own is the pod as it is to be, as far as that is decided.
func (w *writer) own(pod *corev1.Pod) *corev1.Pod {
	if next := w.next[pod]; next != nil {
		return next
	}
	return pod
}

// put writes next over pod.
func (w *writer) put(pod, next *corev1.Pod) {
	w.set.Writes = append(w.set.Writes, w.s.PodKind.Settle(change.Write{
		Op: change.Update, Key: kind.Pods.Key(pod.Namespace, pod.Name), Rev: change.RevOf(pod), Object: next,
	}))
}

// delete deletes pods, and returns those that are gone at once.
func (w *writer) delete(pods []*corev1.Pod) (gone map[*corev1.Pod]bool) {
	gone = make(map[*corev1.Pod]bool)
	for _, pod := range pods {
		deletion, ok := w.s.PodKind.Removal(w.own(pod), change.RevOf(pod), w.now, nil)
		if !ok {
			continue
		}
		delete(w.next, pod)
		gone[pod] = deletion.Op == change.Delete
		w.set.Writes = append(w.set.Writes, deletion)
		w.note(note{corev1.EventTypeNormal, reason.SuccessfulDelete, "Deleted pod: " + pod.Name})
	}
	return gone
}

// create creates the pod of a node.
func (w *writer) create(c census, r record, node string) {
	pod := c.owner.Make()
	if pod.Labels == nil {
		pod.Labels = make(map[string]string, 2)
	}
	pod.Labels[hashLabel] = r.hash
	if r.generation != "" {
		pod.Labels[generationLabel] = r.generation
	}
	pod.Spec.Tolerations = tolerationsOf(&pod.Spec)
	pod.Spec.Affinity = pin(pod.Spec.Affinity, node)
	w.set.Create(kind.Pods.Key(pod.Namespace, ""), pod)
	created := event(c.set, note{corev1.EventTypeNormal, reason.SuccessfulCreate, "Created pod: "})
	created.NameOf = pod
	w.set.Note(created)
}

// update writes the set's new state, if it is one; else what is written depends on the set
// being as it was read.
func (w *writer) update(st appsv1.DaemonSetStatus, backoff string) {
	ds := w.s.Set
	if equality.Semantic.DeepEqual(st, ds.Status) && backoff == ds.Annotations[BackoffAnnotation] {
		if len(w.set.Writes) > 0 {
			w.set.Guards = append(w.set.Guards, change.Guard{Key: keyOf(ds), Rev: change.RevOf(ds)})
		}
		return
	}
	next := *ds
	next.Status = st
	next.Annotations = maps.Clone(ds.Annotations)
	delete(next.Annotations, BackoffAnnotation)
	if backoff != "" {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, BackoffAnnotation, backoff)
	}
	w.set.Update(keyOf(ds), change.RevOf(ds), &next)
}

func (w *writer) note(n note) { w.set.Note(event(w.s.Set, n)) }

func event(ds *appsv1.DaemonSet, n note) change.Note {
	return change.Note{
		Regarding: corev1.ObjectReference{
			APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: ds.Namespace, Name: ds.Name,
			UID: ds.UID, ResourceVersion: ds.ResourceVersion,
		},
		Component: Component, Type: n.eventType, Reason: n.reason, Message: n.message,
	}
}
