package store

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store/page"
)

// opaque are the objects of resources that the codec did not know when the store was
// opened. They stay in the file as they are, byte for byte, and are in no View; backups
// take them along. A newer program wrote them, or they are of resources that become
// known while the store is open, see Adopt. It never changes.
type opaque struct {
	entries []page.Entry // in the order of the keys
	of      map[change.Resource]int
}

func newOpaque(entries []page.Entry) *opaque {
	o := &opaque{entries: entries, of: make(map[change.Resource]int)}
	for _, e := range entries {
		if key, ok := decodeKey(e.Key); ok {
			o.of[key.Resource]++
		}
	}
	return o
}

// counts is how many there are of each resource.
func (o *opaque) counts() map[string]int {
	n := make(map[string]int, len(o.of))
	for resource, count := range o.of {
		n[string(resource)] = count
	}
	return n
}

// without returns what is left when items have been adopted.
func (o *opaque) without(items []*item) *opaque {
	adopted := make(map[string]bool, len(items))
	for _, it := range items {
		adopted[string(encodeKey(it.key))] = true
	}
	return newOpaque(slices.DeleteFunc(slices.Clone(o.entries), func(e page.Entry) bool { return adopted[string(e.Key)] }))
}

// refuse returns why a set may not write: its object may be one that lies in the file
// unread.
func (o *opaque) refuse(set *change.Set) error {
	if len(o.entries) == 0 {
		return nil
	}
	for i := range set.Writes {
		if key := set.Writes[i].Key; o.of[key.Resource] > 0 {
			return fmt.Errorf("store: write of %s: there are objects of this resource that were not read when the store was opened: they have to be adopted first", key)
		}
	}
	return nil
}

// Unread yields the keys of the objects of a namespace that cannot be read here,
// because a newer program wrote them; of all namespaces if it is "".
func (v *View) Unread(namespace string) iter.Seq[change.Key] {
	return func(yield func(change.Key) bool) {
		for _, e := range v.opaque.entries {
			key, ok := decodeKey(e.Key)
			if ok && (namespace == "" || key.Namespace == namespace) && !yield(key) {
				return
			}
		}
	}
}

// Unknown returns how many objects there are of each resource that cannot be read
// here: a newer program wrote them.
func (s *Store) Unknown() map[string]int { return s.View().opaque.counts() }

// Adopt takes in the objects of resources that the Codec has come to know since the
// store was opened, and returns how many there are of each. They appear in View at the
// revisions that they have, as if they had been there all the time: no watch tells of
// them. Before that, nothing of such a resource can be written. An object that cannot
// be decoded is an error, and stays as it is; the others are taken in.
func (s *Store) Adopt() (map[change.Resource]int, error) {
	c := &commit{set: &change.Set{}, turn: make(chan bool, 1)}
	var errs []error
	for _, e := range s.View().opaque.entries {
		it, err := s.decode(e.Key, e.Value)
		switch {
		case errors.Is(err, errUnknown):
		case err != nil:
			errs = append(errs, fmt.Errorf("store: adopt: %w", err))
		default:
			c.adopted = append(c.adopted, it)
		}
	}
	adopted := make(map[change.Resource]int)
	if len(c.adopted) > 0 {
		if err := s.run(c); err != nil {
			return nil, err
		}
	}
	for _, it := range c.adopted {
		adopted[it.key.Resource]++
	}
	return adopted, errors.Join(errs...)
}

// adopt puts items into the trees that lay in the file unread.
func (t *trees) adopt(items []*item) {
	if len(items) == 0 {
		return
	}
	// Somebody else may have adopted them at the same time, and they may be gone since.
	fresh := slices.DeleteFunc(slices.Clone(items), func(it *item) bool {
		_, unread := slices.BinarySearchFunc(t.opaque.entries, encodeKey(it.key), func(e page.Entry, k []byte) int {
			return cmp.Compare(string(e.Key), string(k))
		})
		return !unread
	})
	for _, it := range fresh {
		t.put(nil, it)
	}
	t.opaque = t.opaque.without(fresh)
}
