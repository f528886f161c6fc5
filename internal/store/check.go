package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

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
	err := errors.Join(s.checkMemory(b.view), s.file.verify(b.view, s.opts.Codec))
	if s.opts.Strict && err != nil {
		panic(err)
	}
	for _, c := range b.commits {
		if c.check {
			c.err = err
		}
	}
}

// verify compares the file with v: the same keys, revisions and bytes, besides the
// objects that nobody here knows; and everything that is checked when a file is opened.
func (f *file) verify(v *View, codec Codec) error {
	fail := func(format string, args ...any) error { return fmt.Errorf("store: check: "+format, args...) }
	var mu sync.Mutex
	held := map[string][]byte{}
	c, repair, err := readFile(f.erase.file, func(k, v []byte) (*item, error) {
		_, _, _, err := unpack(k, v)
		mu.Lock()
		defer mu.Unlock()
		held[string(k)] = bytes.Clone(v)
		return &item{}, err
	})
	if err != nil {
		return fail("%w", &DamagedError{f.path, err})
	}
	var errs []error
	if repair != nil || len(c.warnings)+len(c.notes) > 0 || c.seal != f.sealed {
		errs = append(errs, fail("%s holds %v instead of %v: %v", f.path, c.seal, f.sealed, c.warnings))
	}
	n := len(v.opaque.entries)
	for _, tab := range v.tables {
		n += tab.items.Len()
		tab.items.Scan(func(it *item) bool {
			k, want, err := it.encode(codec)
			if err == nil && !bytes.Equal(held[string(k)], want) {
				err = errors.New("the file holds something else")
			}
			if err != nil {
				errs = append(errs, fail("%s at revision %d: %w", it.key, it.rev, err))
			}
			return true
		})
	}
	if len(held) != n {
		errs = append(errs, fail("the file holds %d objects, memory %d", len(held), n))
	}
	if c.seal.mark < v.rev {
		errs = append(errs, fail("revision %d is past the mark %d", v.rev, c.seal.mark))
	}
	return errors.Join(errs...)
}

// encode returns the entry of an item.
func (it *item) encode(codec Codec) (k, v []byte, err error) {
	bare := change.Outer(it.obj)
	bare.SetResourceVersion("")
	data, err := codec.Encode(bare)
	if err != nil {
		return nil, nil, err
	}
	k = encodeKey(it.key)
	return k, encodeValue(k, data, it.rev), nil
}

// checkMemory verifies that the trees of v agree with each other and with what
// the objects say.
func (s *Store) checkMemory(v *View) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("store: check: "+format, args...)) }
	owners := map[*owned]bool{}
	for name, tab := range v.tables {
		terms := map[*termed]bool{}
		var last *item
		count := 0
		tab.items.Scan(func(it *item) bool {
			if count++; last != nil && compareNames(last, it) >= 0 {
				fail("%s is not after %s", it.key, last.key)
			}
			last = it
			if it.key.Resource != name || it.rev > v.rev {
				fail("%s at revision %d is in table %s of a view at %d", it.key, it.rev, name, v.rev)
			}
			if err := s.checkItem(it); err != nil {
				errs = append(errs, err)
			}
			for i := range it.terms {
				got, ok := tab.terms.Get(&it.terms[i])
				if terms[got] = true; !ok || got.it != it {
					fail("%s is not indexed under %q", it.key, it.terms[i].term)
				}
			}
			for i := range it.owners {
				got, ok := v.owners.Get(&it.owners[i])
				if owners[got] = true; !ok || got.it != it {
					fail("%s is not indexed under owner %q", it.key, it.owners[i].uid)
				}
			}
			return true
		})
		if count != tab.items.Len() || len(terms) != tab.terms.Len() {
			fail("%s: %d objects counted, %d walked; %d terms, %d walked", name, tab.items.Len(), count, tab.terms.Len(), len(terms))
		}
	}
	if len(owners) != v.owners.Len() {
		fail("%d owner entries, %d walked", v.owners.Len(), len(owners))
	}
	return errors.Join(errs...)
}

// checkItem verifies that an object is as it was when it was stored.
func (s *Store) checkItem(it *item) error {
	now := &item{key: it.key, obj: it.obj}
	s.describe(now)
	switch {
	case it.obj.GetName() != it.key.Name || it.obj.GetNamespace() != it.key.Namespace:
		return fmt.Errorf("store: check: object %s/%s is stored as %s", it.obj.GetNamespace(), it.obj.GetName(), it.key)
	case it.obj.GetResourceVersion() != strconv.FormatUint(it.rev, 10):
		return fmt.Errorf("store: check: %s is at revision %d, says %s", it.key, it.rev, it.obj.GetResourceVersion())
	case !sameSet(now.owners, it.owners, func(o owned) string { return string(o.uid) }),
		!sameSet(now.terms, it.terms, func(e termed) string { return e.term }):
		return fmt.Errorf("store: check: %s was changed after it was stored", it.key)
	}
	return nil
}

func sameSet[T any](a, b []T, name func(T) string) bool {
	sorted := func(all []T) (names []string) {
		for _, e := range all {
			names = append(names, name(e))
		}
		slices.Sort(names)
		return names
	}
	return slices.Equal(sorted(a), sorted(b))
}
