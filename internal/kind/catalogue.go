package kind

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/change"
)

// Kinds is the catalogue: the rows in use, to be looked up. It may grow while it is
// used, by any number of goroutines; a row that is in it never changes, and stays.
type Kinds struct {
	mu  sync.Mutex // held to add
	now atomic.Pointer[index]
}

// index is one state of the catalogue. It never changes.
type index struct {
	rows       []*Kind
	byResource map[change.Resource]*Kind
	byGVK      map[schema.GroupVersionKind]*Kind
	types      map[reflect.Type]bool
}

// NewKinds returns a catalogue of rows. The error names every row that is not
// complete, or contradicts another, and says what it lacks.
func NewKinds(rows ...*Kind) (*Kinds, error) {
	ks := &Kinds{}
	ks.now.Store(&index{})
	if err := ks.Add(rows...); err != nil {
		return nil, err
	}
	return ks, nil
}

// Builtin returns a catalogue of Table. An error in that is an error in this
// program, and panics.
func Builtin() *Kinds { return Cluster{}.Kinds() }

// Cluster is what the rows of a cluster depend on. The zero value is what Table has.
type Cluster struct {
	// DualStack: Services have addresses of IPv6 beside those of IPv4.
	DualStack bool
	// MountDefault: a default account that is about to be made lets its token be mounted.
	MountDefault bool
}

// Kinds is Builtin for such a cluster.
func (c Cluster) Kinds() *Kinds {
	rows := Table()
	for i, k := range rows {
		switch {
		case c.DualStack && k.Resource == Services:
			rows[i] = serviceOf(corev1.IPv4Protocol, corev1.IPv6Protocol)
		case c.MountDefault && k.Resource == Pods:
			rows[i] = podOf(&corev1.ServiceAccount{})
		}
	}
	ks, err := NewKinds(rows...)
	if err != nil {
		panic(err)
	}
	return ks
}

// Add adds rows, all or none. Who has looked at the catalogue before may have to look
// again: the store for objects that it could not read (store.Adopt), whoever has gone
// through All.
func (ks *Kinds) Add(rows ...*Kind) error {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	next := ks.now.Load().clone()
	var errs []error
	for _, k := range rows {
		err := k.Check()
		if err == nil {
			err = next.add(k)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	ks.now.Store(next)
	return nil
}

func (i *index) clone() *index {
	next := &index{
		rows:       slices.Clone(i.rows),
		byResource: make(map[change.Resource]*Kind, len(i.rows)),
		byGVK:      make(map[schema.GroupVersionKind]*Kind, len(i.rows)),
		types:      make(map[reflect.Type]bool, len(i.rows)),
	}
	for _, k := range i.rows {
		next.enter(k)
	}
	return next
}

// add enters a row, unless it contradicts another.
func (i *index) add(k *Kind) error {
	if i.byResource[k.Resource] != nil {
		return fmt.Errorf("kind: %s has two rows", k.Resource)
	}
	for _, gvk := range k.GVKs() {
		if other := i.byGVK[gvk]; other != nil && !(k.Elsewhere && other.Elsewhere) {
			return fmt.Errorf("kind: %s is what both %s and %s serve", gvk, other.Resource, k.Resource)
		}
	}
	i.rows = append(i.rows, k)
	i.enter(k)
	return nil
}

func (i *index) enter(k *Kind) {
	i.byResource[k.Resource] = k
	i.types[reflect.TypeOf(k.New())] = true
	for _, gvk := range k.GVKs() {
		i.byGVK[gvk] = k
	}
}

// Define adds the row of custom objects, or puts it in the place of an earlier one of the
// same resource: a definition may change. A kind that custom objects of another resource had
// is its own from now on, because a definition gets a kind only when nobody has it; the other
// row stays, for what is left of its objects. A row that contradicts one of ours is not added.
func (ks *Kinds) Define(k *Kind) error {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	next := ks.now.Load().without(k.Resource)
	if err := errors.Join(k.Check(), next.add(k)); err != nil {
		return err
	}
	ks.now.Store(next)
	return nil
}

// without returns a copy that lacks the row of a resource, if that is one of custom objects.
func (i *index) without(resource change.Resource) *index {
	rows := slices.DeleteFunc(slices.Clone(i.rows), func(k *Kind) bool { return k.Elsewhere && k.Resource == resource })
	return (&index{rows: rows}).clone()
}

// Ours returns the rows that have rules.
func Ours(rows []*Kind) []*Kind {
	return slices.DeleteFunc(slices.Clone(rows), func(k *Kind) bool { return k.Elsewhere })
}

// All returns the rows in the order in which they were added. The slice must not be
// changed.
func (ks *Kinds) All() []*Kind { return ks.now.Load().rows }

// ByResource returns the row whose objects have keys with this resource; nil if
// there is none.
func (ks *Kinds) ByResource(resource change.Resource) *Kind {
	return ks.now.Load().byResource[resource]
}

// ByGVK returns the row that serves gvk, in its stored version or in another
// one; nil if there is none.
func (ks *Kinds) ByGVK(gvk schema.GroupVersionKind) *Kind { return ks.now.Load().byGVK[gvk] }

// Index returns the terms under which the store finds obj: Select.Index of the
// resource's row.
func (ks *Kinds) Index(resource change.Resource, obj Object) []string {
	if k := ks.ByResource(resource); k != nil && k.Select.Index != nil {
		return k.Select.Index(obj)
	}
	return nil
}

// Erase reports whether nothing of the resource's objects may stay on the disk once
// they are gone.
func (ks *Kinds) Erase(resource change.Resource) bool {
	k := ks.ByResource(resource)
	return k != nil && k.Storage.Erase
}
