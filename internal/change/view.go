package change

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"
)

// View is a state of all objects to decide from: that of the store, or a mirror of
// a cluster's API. It never changes, and nor do the objects that it hands out.
type View interface {
	// Get returns the object at key.
	Get(key Key) (Object, bool)
	// List yields the objects of a resource in key order (namespace, then name):
	// of one namespace, or of all if namespace is "".
	List(resource Resource, namespace string) iter.Seq[Object]
	// Len returns how many objects the resource has, in all namespaces.
	Len(resource Resource) int
	// Owned yields the objects, of any resource, that name uid in their
	// ownerReferences, with their keys.
	Owned(uid types.UID) iter.Seq2[Key, Object]
	// Unread yields the keys of the objects of a namespace that cannot be read here,
	// because a newer program wrote them; of all namespaces if it is "".
	Unread(namespace string) iter.Seq[Key]
	// Index yields the objects of resource that its row's Index gives term.
	Index(resource Resource, term string) iter.Seq[Object]
}

// Event is one write that has happened.
type Event struct {
	Op  Op
	Key Key
	Rev uint64
	// Object is the new state; for a Delete the last state at the revision of
	// its deletion. Prev is the state before; nil for a Create.
	Object, Prev Object
}
