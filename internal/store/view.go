package store

import (
	"iter"
	"strings"

	"github.com/tidwall/btree"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
)

// item is one state of one object. It never changes once it is in a tree.
type item struct {
	key    change.Key
	rev    uint64
	obj    change.Object
	size   int // of obj, encoded
	owners []owned
	terms  []termed
}

// owned and termed are the entries of the two indexes. They lead to the item,
// not to its key, so that a reader walks one tree only.
type owned struct {
	uid types.UID
	it  *item
}

type termed struct {
	term string
	it   *item
}

func compareNames(a, b *item) int {
	if c := strings.Compare(a.key.Namespace, b.key.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.key.Name, b.key.Name)
}

func lessItem(a, b *item) bool { return compareNames(a, b) < 0 }

func lessOwned(a, b *owned) bool {
	if a.uid != b.uid {
		return a.uid < b.uid
	}
	if a.it.key.Resource != b.it.key.Resource {
		return a.it.key.Resource < b.it.key.Resource
	}
	return compareNames(a.it, b.it) < 0
}

func lessTermed(a, b *termed) bool {
	if a.term != b.term {
		return a.term < b.term
	}
	return compareNames(a.it, b.it) < 0
}

// newTree returns an empty tree. Its nodes are small because nearly every write
// of a lazy set copies a path of them.
func newTree[T any](less func(a, b *T) bool) *btree.BTreeG[*T] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: 16})
}

// table holds the objects of one resource.
type table struct {
	items *btree.BTreeG[*item]
	terms *btree.BTreeG[*termed]
}

// View is one consistent, immutable state of the store.
type View struct {
	rev    uint64
	tables map[change.Resource]table
	owners *btree.BTreeG[*owned]
	opaque *opaque
}

// Rev is the revision of the last write that the view contains.
func (v *View) Rev() uint64 { return v.rev }

// Get returns the object at key.
func (v *View) Get(key change.Key) (change.Object, bool) {
	it := v.item(key)
	if it == nil {
		return nil, false
	}
	return it.obj, true
}

func (v *View) item(key change.Key) *item {
	t, ok := v.tables[key.Resource]
	if !ok {
		return nil
	}
	it, _ := t.items.Get(&item{key: key})
	return it
}

// List yields the objects of a resource in key order (namespace, then name):
// of one namespace, or of all if namespace is "".
func (v *View) List(resource change.Resource, namespace string) iter.Seq[change.Object] {
	return v.ListFrom(resource, namespace, change.Key{})
}

// ListFrom is List from the first key that is not before (namespace, name) of
// start on, for paging.
func (v *View) ListFrom(resource change.Resource, namespace string, start change.Key) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		t, ok := v.tables[resource]
		if !ok {
			return
		}
		pivot := &item{key: change.Key{Namespace: start.Namespace, Name: start.Name}}
		if pivot.key.Namespace < namespace {
			pivot.key = change.Key{Namespace: namespace}
		}
		t.items.Ascend(pivot, func(it *item) bool {
			return (namespace == "" || it.key.Namespace == namespace) && yield(it.obj)
		})
	}
}

// Len returns how many objects the resource has, in all namespaces.
func (v *View) Len(resource change.Resource) int {
	t, ok := v.tables[resource]
	if !ok {
		return 0
	}
	return t.items.Len()
}

// Same reports whether the objects of a resource are those of another view: none was written
// between the two.
func (v *View) Same(other *View, resource change.Resource) bool {
	return v.tables[resource].items == other.tables[resource].items
}

// Owned yields the objects, of any resource, that name uid in their
// ownerReferences, with their keys.
func (v *View) Owned(uid types.UID) iter.Seq2[change.Key, change.Object] {
	return func(yield func(change.Key, change.Object) bool) {
		v.owners.Ascend(&owned{uid, &item{}}, func(o *owned) bool {
			return o.uid == uid && yield(o.it.key, o.it.obj)
		})
	}
}

// Index yields the objects of resource that the index function gave term.
func (v *View) Index(resource change.Resource, term string) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		t, ok := v.tables[resource]
		if !ok {
			return
		}
		t.terms.Ascend(&termed{term, &item{}}, func(e *termed) bool {
			return e.term == term && yield(e.it.obj)
		})
	}
}
