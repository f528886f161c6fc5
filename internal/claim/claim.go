// Package claim is the core of PersistentVolumes and their claims: what Kubernetes' volume
// binder, its protection and ephemeral-volume controllers, the volume plugins of its
// scheduler, and the provisioner and resizer of a local-path StorageClass decide, as pure
// functions of the objects.
//
// It owns the rules: which volume a claim is bound to, when one is made, what becomes of a
// volume whose claim is gone, what may be deleted when, and whether a pod's claims let it run
// on a node. It refuses to touch a directory: a set that creates a volume of the local-path
// provisioner, or takes its finalizer away, says by that that the directory is to be made, or
// to go, and who carries the set out does that before.
//
// A claim and its volume are bound in one Set, which also binds the pod that was waited for:
// there is no moment at which one of them knows of the other, and not the other way round.
//
//	a claim    Decide        bound to what fits, or to a volume that is made; lost; grown; released
//	a volume   DecideVolume  available, bound, released; gone with its claim if that is its policy
//	a pod      DecidePod     gets the claims of its ephemeral volumes
//	a pod      Ledger.Pod    what the scheduler has to know of its claims
package claim

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Component is the name under which decisions about volumes are reported.
const Component = "persistentvolume-controller"

// retry is how long what failed for a reason that no object's write takes away waits.
const retry = 10 * time.Second

// State is what is decided from.
type State struct {
	View change.View // nil: there is nothing
	// Dir is where the local-path provisioner has its directories; "": there are none here.
	Dir string
	// The rows.
	ClaimKind, VolumeKind *kind.Kind
	// Refused is why a new object cannot be, as it was found when this very decision was
	// taken before; nil if it can, as far as is known.
	Refused error
}

// Ledger is a state together with what has been decided about it so far. Decisions that
// follow each other in one Set see what those before have done.
type Ledger struct {
	State
	now time.Time

	claims  map[change.Key]*entry[*corev1.PersistentVolumeClaim]
	volumes map[change.Key]*entry[*corev1.PersistentVolume]
	order   []change.Key          // of both, as they came
	read    map[change.Key]uint64 // what pods that are bound count on, and its revision
	users   map[change.Key]bool   // claims of pods that are bound here
	notes   []change.Note
	wakeAt  time.Time
}

// entry is an object that is written. read is nil if it is new.
type entry[T change.Object] struct{ read, next T }

// New returns a ledger in which nothing is decided yet.
func New(now time.Time, s State) *Ledger {
	return &Ledger{
		State: s, now: now,
		claims:  map[change.Key]*entry[*corev1.PersistentVolumeClaim]{},
		volumes: map[change.Key]*entry[*corev1.PersistentVolume]{},
		read:    map[change.Key]uint64{}, users: map[change.Key]bool{},
	}
}

// Write adds what was decided to set.
func (l *Ledger) Write(set *change.Set) {
	written := map[change.Key]bool{}
	for _, key := range l.order {
		if e := l.claims[key]; e != nil {
			written[key] = write(set, l.ClaimKind, key, e.read, e.next, e.read == nil)
		} else if e := l.volumes[key]; e != nil {
			written[key] = write(set, l.VolumeKind, key, e.read, e.next, e.read == nil)
		}
	}
	for key, rev := range l.read {
		if !written[key] {
			set.Guards = append(set.Guards, change.Guard{Key: key, Rev: rev})
		}
	}
	set.Notes = append(set.Notes, l.notes...)
	set.Wake(l.wakeAt)
}

// write adds one object to set, unless it is as it was.
func write(set *change.Set, k *kind.Kind, key change.Key, read, next change.Object, isNew bool) bool {
	switch {
	case isNew:
		set.Create(key, next)
	case equality.Semantic.DeepEqual(read, next):
		return false
	default:
		set.Writes = append(set.Writes, k.Settle(change.Write{Op: change.Update, Key: key, Rev: change.RevOf(read), Object: next}))
	}
	return true
}

// claim returns a claim as it is after what was decided; nil if there is none.
func (l *Ledger) claim(namespace, name string) *corev1.PersistentVolumeClaim {
	key := kind.PersistentVolumeClaims.Key(namespace, name)
	if e := l.claims[key]; e != nil {
		return e.next
	}
	return find[*corev1.PersistentVolumeClaim](l.View, key)
}

// volume is claim for volumes.
func (l *Ledger) volume(name string) *corev1.PersistentVolume {
	key := kind.PersistentVolumes.Key("", name)
	if e := l.volumes[key]; e != nil {
		return e.next
	}
	return find[*corev1.PersistentVolume](l.View, key)
}

func (l *Ledger) class(name string) *storagev1.StorageClass {
	return find[*storagev1.StorageClass](l.View, kind.StorageClasses.Key("", name))
}

// find returns the object at key, nil if there is none.
func find[T change.Object](view change.View, key change.Key) (found T) {
	if view == nil {
		return found
	}
	if obj, ok := view.Get(key); ok {
		found = obj.(T)
	}
	return found
}

// changeClaim returns a claim that may be changed: what it is then is written.
func (l *Ledger) changeClaim(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	key := kind.PersistentVolumeClaims.Key(c.Namespace, c.Name)
	e := l.claims[key]
	if e == nil {
		e = &entry[*corev1.PersistentVolumeClaim]{read: c, next: c.DeepCopy()}
		l.claims[key], l.order = e, append(l.order, key)
	}
	return e.next
}

// changeVolume is changeClaim for volumes.
func (l *Ledger) changeVolume(v *corev1.PersistentVolume) *corev1.PersistentVolume {
	key := kind.PersistentVolumes.Key("", v.Name)
	e := l.volumes[key]
	if e == nil {
		e = &entry[*corev1.PersistentVolume]{read: v, next: v.DeepCopy()}
		l.volumes[key], l.order = e, append(l.order, key)
	}
	return e.next
}

// addVolume has a volume created.
func (l *Ledger) addVolume(v *corev1.PersistentVolume) {
	key := kind.PersistentVolumes.Key("", v.Name)
	l.volumes[key], l.order = &entry[*corev1.PersistentVolume]{next: v}, append(l.order, key)
}

// noteClaim has an event say something of a claim.
func (l *Ledger) noteClaim(c *corev1.PersistentVolumeClaim, eventType, reason, message string) {
	l.note(corev1.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
	}, eventType, reason, message)
}

// noteVolume is noteClaim for volumes.
func (l *Ledger) noteVolume(v *corev1.PersistentVolume, eventType, reason, message string) {
	l.note(corev1.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolume", Name: v.Name, UID: v.UID, ResourceVersion: v.ResourceVersion,
	}, eventType, reason, message)
}

func (l *Ledger) note(about corev1.ObjectReference, eventType, reason, message string) {
	l.notes = append(l.notes, change.Note{Regarding: about, Component: Component, Type: eventType, Reason: reason, Message: message})
}

// again has the decision taken once more, later.
func (l *Ledger) again() {
	if at := l.now.Add(retry); l.wakeAt.IsZero() || at.Before(l.wakeAt) {
		l.wakeAt = at
	}
}
