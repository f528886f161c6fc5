package store

import (
	"slices"

	"github.com/sampan-batch/sampan/internal/change"
)

// Account is the type of Options.Account.
type Account func(view change.View, writes []change.Write) ([]change.Write, error)

// InTurn returns an Account that asks all of them, each about what the ones before have
// made of the set.
func InTurn(all ...Account) Account {
	return func(view change.View, writes []change.Write) ([]change.Write, error) {
		var more []change.Write
		for _, account := range all {
			added, err := account(view, writes)
			if err != nil {
				return nil, err
			}
			more, writes = with(more, added), with(writes, added)
		}
		return more, nil
	}
}

// with returns writes with added in the place of those of the same keys, or behind them.
func with(writes, added []change.Write) []change.Write {
	if len(added) == 0 {
		return writes
	}
	all := slices.Clone(writes)
	for _, w := range added {
		if at := slices.IndexFunc(all, func(other change.Write) bool { return other.Key == w.Key }); at >= 0 {
			all[at] = w
		} else {
			all = append(all, w)
		}
	}
	return all
}

// Rehearse returns what Apply would make of the set in the state view, or why it would
// refuse it. Nothing is written, and nothing has a resourceVersion.
func (s *Store) Rehearse(view *View, set change.Set) ([]change.Object, error) {
	c, err := s.prepare(&set)
	if err != nil {
		return nil, err
	}
	if err := c.guard(view); err != nil {
		return nil, err
	}
	if err := s.account(view, c); err != nil {
		return nil, err
	}
	objects := make([]change.Object, len(set.Writes))
	for i := range objects {
		objects[i] = c.steps[i].next.obj
	}
	return objects, nil
}

// account adds to c what has to be written with it to the state view.
func (s *Store) account(view *View, c *commit) error {
	if s.opts.Account == nil || len(c.steps) == 0 {
		return nil
	}
	more, err := s.opts.Account(view, c.set.Writes)
	if err != nil {
		return err
	}
	for i := range more {
		w := &more[i]
		st := step{old: view.item(w.Key)}
		if err := s.prepareStep(w, &st); err != nil {
			return err
		}
		at := slices.IndexFunc(c.set.Writes, func(own change.Write) bool { return own.Key == w.Key })
		if at < 0 {
			c.steps = append(c.steps, st)
		} else {
			c.steps[at] = st
		}
	}
	return nil
}
