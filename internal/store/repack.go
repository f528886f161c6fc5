package store

import (
	"fmt"
	"strconv"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

// Repack copies all objects into memory of their own. What a burst leaves behind,
// a few Events in each thousand dead objects, keeps whole pages from being given
// back; copies lie side by side. Nothing is changed and nobody is held up: when
// something is written meanwhile, Repack gives up and returns false.
//
// The history of watches lets go of what is older than it has to be, in any case: what
// was not deleted would be in memory twice.
//
// It costs a decode per object and, while it lasts, their memory twice.
func (s *Store) Repack() (bool, error) {
	s.history.forget(time.Now().Add(-retainTime))
	view := s.View()
	fresh := newTrees()
	fresh.opaque = view.opaque
	for _, tab := range view.tables {
		for _, it := range tab.items.Items() {
			again, err := s.copied(it)
			if err != nil {
				return false, err
			}
			fresh.put(nil, again)
		}
	}
	packed := fresh.freeze(view.rev)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view.Load() != view || s.rev != view.rev || s.busy || s.closed || s.broken != nil || len(s.afloat) > 0 {
		return false, nil
	}
	s.staged = fresh
	s.view.Store(packed)
	return true, nil
}

// copied returns an item with the same object, of which it shares nothing.
func (s *Store) copied(it *item) (*item, error) {
	data, err := s.opts.Codec.Encode(it.obj)
	if err != nil {
		return nil, fmt.Errorf("store: encode %s: %w", it.key, err)
	}
	obj, err := s.opts.Codec.Decode(it.key.Resource, data)
	if err != nil {
		return nil, fmt.Errorf("store: decode %s: %w", it.key, err)
	}
	obj.SetResourceVersion(strconv.FormatUint(it.rev, 10))
	again := &item{
		key: change.Key{Resource: it.key.Resource, Namespace: obj.GetNamespace(), Name: obj.GetName()},
		rev: it.rev, obj: obj, size: len(data),
	}
	s.describe(again)
	return again, nil
}
