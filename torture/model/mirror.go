package model

import (
	"fmt"
	"maps"
	"slices"
)

// Kinds of watch events.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Deleted  = "DELETED"
)

// Event is what a watch showed.
type Event struct {
	Type  string
	Key   string
	State // at an event DELETED, the last one, with the deletion's revision
}

// Mirror is what a watcher knows of all objects of a kind: a list, and what a watch
// said after it. When the watch is lost, it goes on from the newest revision that
// it has seen; when that is gone, it lists again.
type Mirror struct {
	Name    string
	objects map[string]State
	rev     uint64
	spans   []*span
}

// span is what a mirror saw without a gap: everything after one revision up to
// another.
type span struct {
	after, upto uint64
	events      []Event
}

// Revision is where to resume the watch.
func (m *Mirror) Revision() uint64 { return m.rev }

// Listed begins anew with a list at rev.
func (m *Mirror) Listed(rev uint64, objects map[string]State) (err error) {
	if rev < m.rev {
		err = fmt.Errorf("%s: a list is at revision %d, the watch was at %d", m.Name, rev, m.rev)
	}
	m.objects, m.rev = map[string]State{}, rev
	maps.Copy(m.objects, objects)
	m.spans = append(m.spans, &span{after: rev, upto: rev})
	return err
}

// Bookmark notes that everything up to rev has been seen.
func (m *Mirror) Bookmark(rev uint64) error {
	if rev < m.rev {
		return fmt.Errorf("%s: a bookmark at revision %d after revision %d", m.Name, rev, m.rev)
	}
	m.advance(rev)
	return nil
}

func (m *Mirror) advance(rev uint64) {
	m.rev = rev
	m.spans[len(m.spans)-1].upto = rev
}

// Saw takes an event, and returns what is wrong with it.
func (m *Mirror) Saw(e Event) error {
	if e.Rev <= m.rev {
		return fmt.Errorf("%s: %s of %s at revision %d comes after revision %d: twice, or out of order", m.Name, e.Type, e.Key, e.Rev, m.rev)
	}
	m.advance(e.Rev)
	s := m.spans[len(m.spans)-1]
	s.events = append(s.events, e)
	was, known := m.objects[e.Key]
	if e.Type == Deleted {
		delete(m.objects, e.Key)
	} else {
		m.objects[e.Key] = e.State
	}
	switch {
	case e.Type == Added && known:
		return fmt.Errorf("%s: ADDED %s at revision %d, which is there since revision %d", m.Name, e.Key, e.Rev, was.Rev)
	case e.Type != Added && !known:
		return fmt.Errorf("%s: %s %s at revision %d, which was not there", m.Name, e.Type, e.Key, e.Rev)
	case e.Type != Added && was.UID != e.UID:
		return fmt.Errorf("%s: %s %s at revision %d has UID %s, not %s", m.Name, e.Type, e.Key, e.Rev, e.UID, was.UID)
	}
	return nil
}

// Compare holds the mirror against a list at rev, up to which it must have seen
// everything.
func (m *Mirror) Compare(rev uint64, objects map[string]State) (errs []error) {
	if m.rev < rev {
		return []error{fmt.Errorf("%s: has seen up to revision %d, not %d", m.Name, m.rev, rev)}
	}
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		if got := m.objects[key]; got.Rev != objects[key].Rev {
			errs = append(errs, fmt.Errorf("%s: the watch shows %s as %s, a list as %s", m.Name, key, got, objects[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		if _, ok := objects[key]; !ok {
			errs = append(errs, fmt.Errorf("%s: the watch still shows %s, a list does not", m.Name, key))
		}
	}
	return errs
}

// Check holds everything that the watch ever showed against all writes that have
// happened: each is there once, where the watch was looking, and nothing else. It
// returns how many events it has compared. Objects of keys that nobody wrote are
// not its business.
func (m *Mirror) Check(written []Write) (n int, errs []error) {
	values := map[string]Write{}  // by value: creates and updates
	deletes := map[string]Write{} // by UID
	seen := map[string]uint64{}   // value → revision
	ended := map[string]uint64{}  // UID → revision
	keys := map[string]bool{}
	for _, w := range written {
		if keys[w.Key] = true; w.Value == "" {
			deletes[w.UID] = w
		} else {
			values[w.Value] = w
		}
	}
	for _, s := range m.spans {
		for _, e := range s.events {
			if !keys[e.Key] {
				continue
			}
			n++
			if err := m.explain(e, values, deletes, seen, ended); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, w := range written {
		if _, ok := seen[w.Value]; w.Value != "" && !ok && m.looked(w.Rev, w.Rev) {
			errs = append(errs, fmt.Errorf("%s: never showed %s as %q at revision %d", m.Name, w.Key, w.Value, w.Rev))
		}
		if _, ok := ended[w.UID]; w.Value == "" && !ok && w.Before != 0 && m.looked(w.After+1, w.Before) {
			errs = append(errs, fmt.Errorf("%s: never showed that %s was deleted after revision %d", m.Name, w.Key, w.After))
		}
	}
	return n, errs
}

// explain finds the write of an event.
func (m *Mirror) explain(e Event, values, deletes map[string]Write, seen, ended map[string]uint64) error {
	if e.Type == Deleted {
		w, ok := deletes[e.UID]
		if last := ended[e.UID]; last != 0 && last != e.Rev || !ok || w.Before != 0 && e.Rev >= w.Before || e.Rev <= w.After {
			return fmt.Errorf("%s: %s was deleted at revision %d, but not by who owns it", m.Name, e.Key, e.Rev)
		}
		ended[e.UID] = e.Rev
		return nil
	}
	w, ok := values[e.Value]
	last := seen[e.Value]
	switch seen[e.Value] = e.Rev; {
	case !ok:
		return fmt.Errorf("%s: %s is %q at revision %d, which was refused or never written", m.Name, e.Key, e.Value, e.Rev)
	case last != 0 && last != e.Rev:
		return fmt.Errorf("%s: %s is %q at revision %d, and was at %d", m.Name, e.Key, e.Value, e.Rev, last)
	case w.Rev != 0 && w.Rev != e.Rev || w.Key != e.Key || w.Create != (e.Type == Added):
		return fmt.Errorf("%s: %s %s as %q at revision %d, but written as %s at %d", m.Name, e.Type, e.Key, e.Value, e.Rev, w.Key, w.Rev)
	}
	return nil
}

// looked: the watch has seen everything between two revisions, both included.
func (m *Mirror) looked(first, last uint64) bool {
	return first != 0 && slices.ContainsFunc(m.spans, func(s *span) bool { return s.after < first && last <= s.upto })
}
