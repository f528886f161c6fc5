package replicaset

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// write turns a decision into the set that carries it out.
func write(now time.Time, s State, c census, p plan) change.Set {
	w := writer{now: now, s: s, c: c}
	for _, pod := range c.unmatched {
		w.put(pod, c.owner.Release(pod))
	}
	removed := w.delete(p.remove)
	for range p.start {
		pod := c.owner.Make()
		w.set.Create(kind.Pods.Key(pod.Namespace, ""), pod)
		w.note(corev1.EventTypeNormal, reason.SuccessfulCreate, "Created pod: ", pod)
	}
	if p.refused != nil {
		w.note(corev1.EventTypeWarning, reason.FailedCreate, "Error creating: "+p.refused.Error(), nil)
	}
	st := statusOf(now, c, &p, removed)
	key := c.resource.Key(c.set.Namespace, c.set.Name)
	switch {
	case !equality.Semantic.DeepEqual(st, c.set.Status):
		w.set.Update(key, change.RevOf(c.set), withStatus(s.Set, st))
	case len(w.set.Writes) > 0: // they depend on the set being as it was read
		w.set.Guards = append(w.set.Guards, change.Guard{Key: key, Rev: change.RevOf(c.set)})
	}
	w.set.Wake(p.wakeAt)
	return w.set
}

// writer fills a set.
type writer struct {
	set change.Set
	now time.Time
	s   State
	c   census
}

// put writes next over pod.
func (w *writer) put(pod, next *corev1.Pod) {
	w.set.Writes = append(w.set.Writes, w.s.PodKind.Settle(change.Write{
		Op: change.Update, Key: kind.Pods.Key(pod.Namespace, pod.Name), Rev: change.RevOf(pod), Object: next,
	}))
}

// delete deletes pods, and adopts the others that have no owner yet. It returns those that
// it deleted, and of each whether it is gone at once.
func (w *writer) delete(pods []*corev1.Pod) (removed map[*corev1.Pod]bool) {
	next := make(map[*corev1.Pod]*corev1.Pod)
	for _, pod := range w.c.adopted {
		next[pod] = w.c.owner.Adopt(pod)
	}
	removed = make(map[*corev1.Pod]bool)
	for _, pod := range pods {
		as := pod
		if next[pod] != nil {
			as = next[pod]
		}
		deletion, ok := w.s.PodKind.Removal(as, change.RevOf(pod), w.now, nil)
		if !ok {
			continue
		}
		delete(next, pod)
		removed[pod] = deletion.Op == change.Delete
		w.set.Writes = append(w.set.Writes, deletion)
		w.note(corev1.EventTypeNormal, reason.SuccessfulDelete, "Deleted pod: "+pod.Name, nil)
	}
	for _, pod := range w.c.adopted {
		if next[pod] != nil {
			w.put(pod, next[pod])
		}
	}
	return removed
}

// note adds an event about the set. named, if not nil, is the object whose name ends it.
func (w *writer) note(eventType, why, message string, named *corev1.Pod) {
	n := change.Note{
		Regarding: corev1.ObjectReference{
			APIVersion: w.c.gvk.GroupVersion().String(), Kind: w.c.gvk.Kind, Namespace: w.c.set.Namespace, Name: w.c.set.Name,
			UID: w.c.set.UID, ResourceVersion: w.c.set.ResourceVersion,
		},
		Component: w.c.component, Type: eventType, Reason: why, Message: message,
	}
	if named != nil {
		n.NameOf = named
	}
	w.set.Note(n)
}
