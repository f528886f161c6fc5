package kind

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kinds is a table of rows that can be looked up. It is immutable.
type Kinds struct {
	rows       []*Kind
	byResource map[string]*Kind
	byGVK      map[schema.GroupVersionKind]*Kind
}

// NewKinds indexes rows, usually Table().
func NewKinds(rows []*Kind) *Kinds {
	ks := &Kinds{
		rows:       rows,
		byResource: make(map[string]*Kind, len(rows)),
		byGVK:      make(map[schema.GroupVersionKind]*Kind, len(rows)),
	}
	for _, k := range rows {
		ks.byResource[k.GR().String()] = k
		for _, gvk := range k.GVKs() {
			ks.byGVK[gvk] = k
		}
	}
	return ks
}

// All returns the rows in table order. The slice must not be changed.
func (ks *Kinds) All() []*Kind { return ks.rows }

// ByResource returns the row whose objects have keys with this resource
// ("pods", "jobs.batch"), nil if there is none.
func (ks *Kinds) ByResource(resource string) *Kind { return ks.byResource[resource] }

// ByGVK returns the row that serves gvk, in its stored version or in another
// one; nil if there is none.
func (ks *Kinds) ByGVK(gvk schema.GroupVersionKind) *Kind { return ks.byGVK[gvk] }

// Index returns the terms under which the store finds obj: Kind.Index of the
// resource's row.
func (ks *Kinds) Index(resource string, obj Object) []string {
	if k := ks.byResource[resource]; k != nil && k.Index != nil {
		return k.Index(obj)
	}
	return nil
}
