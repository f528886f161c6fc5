package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/sampan-batch/sampan/internal/change"
)

// Check verifies every invariant of the store (trees, indexes, revisions and
// the file agree). It takes its turn among the commits and holds them up, and
// it is slow: for tests and `sampan` diagnostics.
func (s *Store) Check() error {
	c := &commit{set: &change.Set{}, check: true, turn: make(chan bool, 1)}
	return s.run(c)
}

// verify answers the checks in a batch that was written, before it is
// published; under Options.Strict it insists.
func (s *Store) verify(b *batch) {
	asked := slices.ContainsFunc(b.commits, func(c *commit) bool { return c.check })
	if !asked && !s.opts.Strict {
		return
	}
	err := errors.Join(s.checkMemory(b.view), s.file.verify(b.view, s.opts.Codec.Encode))
	if s.opts.Strict && err != nil {
		panic(err)
	}
	for _, c := range b.commits {
		if c.check {
			c.err = err
		}
	}
}

// checkMemory verifies that the trees of v agree with each other and with what
// the objects say.
func (s *Store) checkMemory(v *View) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("store: check: "+format, args...)) }
	owners := 0
	for name, tab := range v.tables {
		terms, count := 0, 0
		var last *item
		tab.items.Scan(func(it *item) bool {
			count++
			if last != nil && compareNames(last, it) >= 0 {
				fail("%s is not after %s", it.key, last.key)
			}
			last = it
			want := &item{key: it.key, obj: it.obj}
			s.describe(want)
			if it.key.Resource != name || it.obj.GetName() != it.key.Name || it.obj.GetNamespace() != it.key.Namespace {
				fail("object %s/%s is in table %s as %s", it.obj.GetNamespace(), it.obj.GetName(), name, it.key)
			}
			if it.obj.GetResourceVersion() != strconv.FormatUint(it.rev, 10) || it.rev > v.rev {
				fail("%s is at revision %d, says %s, the view is at %d", it.key, it.rev, it.obj.GetResourceVersion(), v.rev)
			}
			if !sameSet(want.owners, it.owners) || !sameSet(want.terms, it.terms) {
				fail("%s was changed after it was stored", it.key)
			}
			for i, term := range it.terms {
				if got, ok := tab.terms.Get(termed{term, it}); !ok || got.it != it {
					fail("%s is not indexed under %q", it.key, term)
				}
				if !slices.Contains(it.terms[:i], term) {
					terms++
				}
			}
			for i, uid := range it.owners {
				if got, ok := v.owners.Get(owned{uid, it}); !ok || got.it != it {
					fail("%s is not indexed under owner %q", it.key, uid)
				}
				if !slices.Contains(it.owners[:i], uid) {
					owners++
				}
			}
			return true
		})
		if count != tab.items.Len() || terms != tab.terms.Len() {
			fail("%s: %d objects counted, %d walked; %d terms, %d walked", name, tab.items.Len(), count, tab.terms.Len(), terms)
		}
	}
	if owners != v.owners.Len() {
		fail("%d owner entries, %d walked", v.owners.Len(), owners)
	}
	return errors.Join(errs...)
}

func sameSet[T cmp.Ordered](a, b []T) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
