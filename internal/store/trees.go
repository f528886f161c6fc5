package store

import (
	"maps"
	"slices"

	"github.com/sampan-batch/sampan/internal/change"
)

// trees is the state that a leader may still change. freeze takes a View of it
// in constant time: the trees share their nodes, and a later put copies the
// path that it touches.
type trees struct {
	View
	frozen *View                    // the last view taken
	dirty  map[change.Resource]bool // tables touched since; "" stands for owners
}

func newTrees() *trees {
	return thaw(&View{tables: map[change.Resource]table{}, owners: newTree(lessOwned), opaque: newOpaque(nil)})
}

// thaw returns trees that start from v and leave it as it is.
func thaw(v *View) *trees {
	t := &trees{frozen: v, dirty: map[change.Resource]bool{}}
	t.tables = make(map[change.Resource]table, len(v.tables))
	for name, tab := range v.tables {
		t.tables[name] = table{items: tab.items.Copy(), terms: tab.terms.Copy()}
	}
	t.owners, t.opaque = v.owners.Copy(), v.opaque
	return t
}

// freeze returns the present state, as of revision rev.
func (t *trees) freeze(rev uint64) *View {
	v := &View{rev: rev, tables: t.frozen.tables, owners: t.frozen.owners, opaque: t.opaque}
	if len(t.dirty) > 0 {
		v.tables = maps.Clone(v.tables)
		for name := range t.dirty {
			if name == "" {
				v.owners = t.owners.Copy()
				continue
			}
			tab := t.tables[name]
			v.tables[name] = table{items: tab.items.Copy(), terms: tab.terms.Copy()}
		}
		clear(t.dirty)
	}
	t.frozen = v
	return v
}

// put replaces old, which may be nil, by it in every tree.
func (t *trees) put(old, it *item) {
	tab, ok := t.tables[it.key.Resource]
	if !ok {
		tab = table{items: newTree(lessItem), terms: newTree(lessTermed)}
		t.tables[it.key.Resource] = tab
	}
	t.dirty[it.key.Resource] = true
	tab.items.Set(it)
	for i := range it.terms {
		tab.terms.Set(&it.terms[i])
	}
	for i := range it.owners {
		t.owners.Set(&it.owners[i])
		t.dirty[""] = true
	}
	if old != nil {
		t.drop(old, it)
	}
}

// remove takes old out of every tree.
func (t *trees) remove(old *item) {
	t.dirty[old.key.Resource] = true
	t.tables[old.key.Resource].items.Delete(old)
	t.drop(old, &item{})
}

// drop takes old out of the indexes, except where next took its place.
func (t *trees) drop(old, next *item) {
	tab := t.tables[old.key.Resource]
	for i := range old.terms {
		same := func(e termed) bool { return e.term == old.terms[i].term }
		if !slices.ContainsFunc(next.terms, same) {
			tab.terms.Delete(&old.terms[i])
		}
	}
	for i := range old.owners {
		same := func(e owned) bool { return e.uid == old.owners[i].uid }
		if !slices.ContainsFunc(next.owners, same) {
			t.owners.Delete(&old.owners[i])
			t.dirty[""] = true
		}
	}
}
