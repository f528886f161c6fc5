package statefulset

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// write turns the decision into the set that carries it out.
func (d *decision) write() change.Set {
	var set change.Set
	if d.Set.DeletionTimestamp == nil {
		d.book.Write(&set, d.RevisionKind, d.now)
		for _, pod := range d.unmatched {
			d.put(&set, pod, d.owner.Release(pod))
		}
	}
	for _, w := range d.claims {
		key := kind.PersistentVolumeClaims.Key(w.next.Namespace, w.next.Name)
		if w.read == nil {
			set.Create(key, w.next)
		} else {
			set.Update(key, change.RevOf(w.read), w.next)
		}
	}
	gone := make(map[*member]bool)
	for _, m := range d.members() {
		gone[m] = d.writeMember(&set, m)
	}
	d.guardOrder(&set)
	d.writeStatus(&set, gone)
	for _, n := range d.notes {
		set.Note(event(d.Set, n))
	}
	set.Wake(d.wakeAt)
	return set
}

// guardOrder: that a pod comes, or goes, in its turn depends on the others being as they were
// read. Without it one that has ceased to be ready meanwhile would not be waited for.
func (d *decision) guardOrder(set *change.Set) {
	if !monotonic(d.Set) || len(d.started)+d.stops == 0 {
		return
	}
	written := make(map[change.Key]bool, len(set.Writes))
	for i := range set.Writes {
		written[set.Writes[i].Key] = true
	}
	for _, m := range d.members() {
		if key := kind.Pods.Key(m.pod.Namespace, m.pod.Name); m.exists && !written[key] {
			set.Guards = append(set.Guards, change.Guard{Key: key, Rev: change.RevOf(m.pod)})
		}
	}
}

// writeMember writes what becomes of a pod, and reports whether it is gone at once.
func (d *decision) writeMember(set *change.Set, m *member) (gone bool) {
	next := m.pod
	if d.adopted[m.pod] {
		next = d.owner.Adopt(m.pod)
	}
	switch {
	case m.start:
		set.Create(kind.Pods.Key(next.Namespace, next.Name), next)
	case m.stop:
		w, ok := d.PodKind.Removal(next, change.RevOf(m.pod), d.now, nil)
		if ok {
			set.Writes = append(set.Writes, w)
		}
		return w.Op == change.Delete
	case m.fix:
		fixed := *next
		fixed.Labels = maps.Clone(next.Labels)
		fixed.Labels[appsv1.StatefulSetPodNameLabel] = m.pod.Name
		d.put(set, m.pod, &fixed)
	case next != m.pod:
		d.put(set, m.pod, next)
	}
	return false
}

func (d *decision) put(set *change.Set, pod, next *corev1.Pod) {
	set.Writes = append(set.Writes, d.PodKind.Settle(change.Write{
		Op: change.Update, Key: kind.Pods.Key(pod.Namespace, pod.Name), Rev: change.RevOf(pod), Object: next,
	}))
}

// writeStatus writes the set's status when all that has been carried out, if it is another;
// else what is written depends on the set being as it was read.
func (d *decision) writeStatus(set *change.Set, gone map[*member]bool) {
	st := d.status(gone)
	if equality.Semantic.DeepEqual(st, d.Set.Status) {
		if len(set.Writes) > 0 {
			set.Guards = append(set.Guards, change.Guard{Key: keyOf(d.Set), Rev: change.RevOf(d.Set)})
		}
		return
	}
	next := *d.Set
	next.Status = st
	set.Update(keyOf(d.Set), change.RevOf(d.Set), &next)
}

// status counts the pods that are left, and those that are created.
func (d *decision) status(gone map[*member]bool) appsv1.StatefulSetStatus {
	st := appsv1.StatefulSetStatus{
		ObservedGeneration: max(d.Set.Generation, d.Set.Status.ObservedGeneration),
		CurrentRevision:    d.current.Name, UpdateRevision: d.update.Name,
		CollisionCount: ptr.To(d.collisions), Conditions: d.Set.Status.Conditions,
	}
	for _, m := range d.members() {
		if gone[m] || !m.exists && !m.start {
			continue
		}
		st.Replicas++
		if m.exists && runsReady(m.pod) {
			st.ReadyReplicas++
			if d.serves(m) {
				st.AvailableReplicas++
			}
		}
		if m.terminating() || m.stop {
			continue
		}
		if revisionOf(m.pod) == d.current.Name {
			st.CurrentReplicas++
		}
		if revisionOf(m.pod) == d.update.Name {
			st.UpdatedReplicas++
		}
	}
	if n := int32(count(d.Set)); st.UpdatedReplicas == n && st.ReadyReplicas == n && st.Replicas == n {
		st.CurrentReplicas, st.CurrentRevision = st.UpdatedReplicas, st.UpdateRevision
	}
	return st
}

func event(set *appsv1.StatefulSet, n note) change.Note {
	return change.Note{
		Regarding: corev1.ObjectReference{
			APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: set.Namespace, Name: set.Name,
			UID: set.UID, ResourceVersion: set.ResourceVersion,
		},
		Component: Component, Type: n.eventType, Reason: n.reason, Message: n.message,
	}
}
