// Package change holds the vocabulary between those who decide and those who
// store. A decision is made from a View, because of an Event; it is handed over as
// a Set of writes over any number of objects, the notes (Events) that explain it,
// and the time at which the decision wants to be taken again.
//
// The package decides nothing and stores nothing. A core (see DESIGN.md)
// returns a Set, the store commits it whole or not at all. What a Set means where
// that cannot be had is said in docs/adr/0008-a-set-without-atomic-writes.md.
package change

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is any API object. An Object that the store has handed out, or that
// has been handed to the store in a Write, is immutable: DeepCopy it first.
type Object interface {
	metav1.Object
	runtime.Object
}

// Resource names the objects of one kind: the lower-case plural and, outside the
// core group, the group: "pods", "jobs.batch".
type Resource string

// Key returns the key of the named object; namespace is "" for a cluster-scoped one.
func (r Resource) Key(namespace, name string) Key {
	return Key{Resource: r, Namespace: namespace, Name: name}
}

// Key names one object for its whole life.
type Key struct {
	Resource  Resource
	Namespace string // "" for a cluster-scoped resource
	Name      string
}

// String returns resource/namespace/name, or resource/name when cluster-scoped.
func (k Key) String() string {
	if k.Namespace == "" {
		return string(k.Resource) + "/" + k.Name
	}
	return string(k.Resource) + "/" + k.Namespace + "/" + k.Name
}

// RevOf returns the resourceVersion at which obj was read, as a guard wants it; 0
// for an object that has not been stored.
func RevOf(obj metav1.Object) uint64 {
	rev, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64) // the store wrote it
	return rev
}

// Op is what a Write does to its key.
type Op uint8

const (
	Create Op = iota + 1 // the key must be absent
	Update               // the key must be at Write.Rev
	Delete               // the key must be at Write.Rev
)

// Write is one step of a Set.
type Write struct {
	Op  Op
	Key Key
	// Object is the new state for Create and Update. The store takes it over
	// and sets its resourceVersion; the caller must not touch it afterwards.
	Object Object
	// Rev is the resourceVersion that was read, for Update and Delete.
	Rev uint64
}

// Guard demands that a key that is read, but not written, is still as it was
// read: at revision Rev, or absent when Rev is 0.
type Guard struct {
	Key Key
	Rev uint64
}

// Note becomes an Event about Regarding. Notes are best effort: losing one
// loses an explanation, never a decision.
type Note struct {
	Regarding corev1.ObjectReference
	Component string // reporting component: "job-controller", "kubelet", …
	Type      string // corev1.EventTypeNormal or corev1.EventTypeWarning
	Reason    string // CamelCase, one word
	Message   string
	// NameOf is an object whose name is put behind Message. One that the same Set
	// creates may be given its name only after the decision, see Create.
	NameOf metav1.Object `json:"-"`
}

// Set is a decision: it commits whole, guarded by the revisions that it was
// made from, or not at all.
type Set struct {
	Writes []Write
	Guards []Guard
	Notes  []Note
	// WakeAt is when the same key wants to be decided again although nothing
	// changed by then. Zero means never.
	WakeAt time.Time
	// Lazy says that losing the set in a crash is acceptable: it does not wait
	// for the disk, but rides with the next commit that does. For Events.
	Lazy bool
}

// Refusal is the error of a Set that asks for more than there may be of something.
// Nothing of it is written.
type Refusal struct {
	// Err is what the API answers to a client that asks for it.
	Err error
	// Taken is how many of the set's creations there is room for, from the first on.
	Taken int
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// Empty reports whether the set neither writes nor notes anything.
func (s *Set) Empty() bool { return len(s.Writes) == 0 && len(s.Notes) == 0 }

// Create adds the creation of obj under key. Where the key has no name, obj asks for
// one with its generateName, as a client does.
func (s *Set) Create(key Key, obj Object) {
	s.Writes = append(s.Writes, Write{Op: Create, Key: key, Object: obj})
}

// Update adds the replacement of the state that was read at rev by obj.
func (s *Set) Update(key Key, rev uint64, obj Object) {
	s.Writes = append(s.Writes, Write{Op: Update, Key: key, Rev: rev, Object: obj})
}

// Delete adds the removal of the object that was read at rev.
func (s *Set) Delete(key Key, rev uint64) {
	s.Writes = append(s.Writes, Write{Op: Delete, Key: key, Rev: rev})
}

// Note adds an Event about regarding.
func (s *Set) Note(n Note) { s.Notes = append(s.Notes, n) }

// Wake asks to be decided again at t, or earlier if that was already asked.
func (s *Set) Wake(t time.Time) {
	if t.IsZero() {
		return
	}
	if s.WakeAt.IsZero() || t.Before(s.WakeAt) {
		s.WakeAt = t
	}
}
