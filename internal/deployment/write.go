package deployment

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// copyOf returns a Deployment of which annotations, conditions and fields may be changed.
func copyOf(d *appsv1.Deployment) *appsv1.Deployment {
	next := *d
	next.Annotations = maps.Clone(d.Annotations)
	next.Status.Conditions = slices.Clone(d.Status.Conditions)
	return &next
}

func (d *decision) tell(eventType, reason, message string) {
	d.notes = append(d.notes, note{eventType, reason, message})
}

// write turns the decision into the set that carries it out.
func (d *decision) write() change.Set {
	var set change.Set
	for _, s := range slices.Concat(d.foreign, d.old, d.gone) {
		d.writeSet(&set, s)
	}
	if d.fresh != nil {
		d.writeSet(&set, d.fresh)
	}
	read := d.Deployment
	if !equality.Semantic.DeepEqual(read.Spec, d.next.Spec) {
		d.next.Generation++
	}
	switch {
	case !equality.Semantic.DeepEqual(read, d.next):
		set.Update(keyOf(read), change.RevOf(read), d.next)
	case len(set.Writes) > 0: // they depend on the Deployment being as it was read
		set.Guards = append(set.Guards, change.Guard{Key: keyOf(read), Rev: change.RevOf(read)})
	}
	for _, n := range d.notes {
		set.Note(change.Note{
			Regarding: corev1.ObjectReference{
				APIVersion: "apps/v1", Kind: "Deployment", Namespace: read.Namespace, Name: read.Name,
				UID: read.UID, ResourceVersion: read.ResourceVersion,
			},
			Component: Component, Type: n.eventType, Reason: n.reason, Message: n.message,
		})
	}
	set.Wake(d.wakeAt)
	return set
}

// writeSet writes what becomes of a ReplicaSet. Whoever changes its spec counts that, as
// the API does for its clients.
func (d *decision) writeSet(set *change.Set, s *replicaSet) {
	switch {
	case s.next == s.read:
	case s.next == nil:
		if w, ok := d.SetKind.Removal(s.read, change.RevOf(s.read), d.now, nil); ok {
			set.Writes = append(set.Writes, w)
		}
	case s.read == nil:
		set.Create(kind.ReplicaSets.Key(s.next.Namespace, s.next.Name), s.next)
	default:
		if !equality.Semantic.DeepEqual(s.read.Spec, s.next.Spec) {
			s.next.Generation++
		}
		set.Update(kind.ReplicaSets.Key(s.read.Namespace, s.read.Name), change.RevOf(s.read), s.next)
	}
}
