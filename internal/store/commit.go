package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

const (
	// reserve is how many revisions ahead the mark on disk is kept.
	reserve = 10000
	// flushAfter bounds how long a lazy set stays afloat on an idle store.
	flushAfter = time.Second
)

// commit is one Set on its way.
type commit struct {
	set   *change.Set
	steps []step
	lazy  bool
	check bool // asks for a Check after the batch
	// adopted are objects that were opaque before
	adopted []*item
	turn    chan bool // receives once: true to lead the next batch, false when answered
	result  Result
	err     error
}

// step is one write of a commit: from old (nil: absent) to next. For a Delete,
// next is the last state at the revision of the deletion.
type step struct {
	op        change.Op
	old, next *item
	data      []byte // the encoded object; nil for a Delete
}

// prepare does everything that needs no lock: it checks the set's shape and
// encodes its objects.
func (s *Store) prepare(set *change.Set) (*commit, error) {
	if err := checkShape(set); err != nil {
		return nil, err
	}
	c := &commit{set: set, lazy: set.Lazy, turn: make(chan bool, 1), steps: make([]step, len(set.Writes))}
	for i := range set.Writes {
		if err := s.prepareStep(&set.Writes[i], &c.steps[i]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (s *Store) prepareStep(w *change.Write, st *step) error {
	st.op = w.Op
	st.next = &item{key: w.Key, obj: w.Object}
	if w.Op == change.Delete {
		// The state at a revision is unique, so the copy can be made
		// before the guard is checked.
		if old := s.View().item(w.Key); old != nil && old.rev == w.Rev {
			st.next.obj = old.obj.DeepCopyObject().(change.Object)
		}
		return nil
	}
	w.Object.SetResourceVersion("")
	data, err := s.opts.Codec.Encode(w.Object)
	if err != nil {
		return fmt.Errorf("store: encode %s: %w", w.Key, err)
	}
	st.data, st.next.size = data, len(data)
	s.describe(st.next)
	return nil
}

// checkShape refuses sets that no state of the store could make right.
func checkShape(set *change.Set) error {
	for i := range set.Writes {
		w := &set.Writes[i]
		if w.Key.Resource == "" || w.Key.Name == "" || strings.Contains(w.Key.String(), "\x00") {
			return fmt.Errorf("store: write %d has no valid key: %q", i, w.Key)
		}
		switch w.Op {
		case change.Create, change.Update:
			if w.Object == nil {
				return fmt.Errorf("store: write of %s without an object", w.Key)
			}
			if w.Object.GetName() != w.Key.Name || w.Object.GetNamespace() != w.Key.Namespace {
				return fmt.Errorf("store: object %s/%s written as %s", w.Object.GetNamespace(), w.Object.GetName(), w.Key)
			}
		case change.Delete:
		default:
			return fmt.Errorf("store: write of %s has no operation", w.Key)
		}
		if (w.Op == change.Create) != (w.Rev == 0) {
			return fmt.Errorf("store: write of %s: a create has no revision, an update or delete the one that was read", w.Key)
		}
	}
	return checkTwice(set.Writes)
}

// checkTwice refuses a set that writes a key twice: the second write could not
// know the revision of the first.
func checkTwice(writes []change.Write) error {
	if len(writes) <= 8 {
		for i := range writes {
			for j := range i {
				if writes[i].Key == writes[j].Key {
					return fmt.Errorf("store: one set writes %s twice", writes[i].Key)
				}
			}
		}
		return nil
	}
	seen := make(map[change.Key]struct{}, len(writes))
	for i := range writes {
		if _, ok := seen[writes[i].Key]; ok {
			return fmt.Errorf("store: one set writes %s twice", writes[i].Key)
		}
		seen[writes[i].Key] = struct{}{}
	}
	return nil
}

// describe fills in what the indexes need to know of an item.
func (s *Store) describe(it *item) {
	if refs := it.obj.GetOwnerReferences(); len(refs) > 0 {
		it.owners = make([]owned, len(refs))
		for i := range refs {
			it.owners[i] = owned{refs[i].UID, it}
		}
	}
	if s.opts.Index == nil {
		return
	}
	if terms := s.opts.Index(it.key.Resource, it.obj); len(terms) > 0 {
		it.terms = make([]termed, len(terms))
		for i, term := range terms {
			it.terms[i] = termed{term, it}
		}
	}
}

// submit stages c and puts it in line. lead tells the caller to lead the next
// batch at once; else it waits for its turn.
func (s *Store) submit(c *commit) (lead bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return false, ErrClosed
	case s.broken != nil:
		return false, s.broken
	}
	if err := s.staged.opaque.refuse(c.set); err != nil {
		return false, err
	}
	if err := c.guard(&s.staged.View); err != nil {
		if !s.busy || c.guard(s.View()) != nil {
			return false, err
		}
		// What c conflicts with is not on disk yet. c hears of it when it is,
		// so that reading again shows the reason.
		c.steps, c.lazy, c.err = nil, true, err
	}
	if err := s.account(&s.staged.View, c); err != nil {
		return false, err
	}
	if err := s.refuse(c); err != nil {
		return false, err
	}
	s.stageLocked(c)
	if c.lazy && len(s.queue) == 0 {
		view := s.staged.freeze(s.rev)
		if s.busy {
			s.ahead, s.aheadView = append(s.ahead, c), view
			return false, nil
		}
		s.publishLocked(view, []*commit{c})
		s.floatLocked([]*commit{c})
		answer([]*commit{c}, nil)
		return false, nil
	}
	s.queue = append(s.queue, c)
	if s.busy {
		return false, nil
	}
	s.busy = true
	return true, nil
}

// guard checks every revision that c was decided from against v, and notes the
// states that c replaces.
func (c *commit) guard(v *View) error {
	check := func(key change.Key, want uint64) (*item, error) {
		it, have := v.item(key), uint64(0)
		if it != nil {
			have = it.rev
		}
		if have != want {
			return nil, &ConflictError{Key: key, Want: want, Have: have}
		}
		return it, nil
	}
	for i := range c.set.Writes {
		old, err := check(c.set.Writes[i].Key, c.set.Writes[i].Rev)
		if err != nil {
			return err
		}
		c.steps[i].old = old
	}
	for _, g := range c.set.Guards {
		if _, err := check(g.Key, g.Rev); err != nil {
			return err
		}
	}
	return nil
}

// stageLocked gives c its revisions and makes it the newest staged state.
func (s *Store) stageLocked(c *commit) {
	s.staged.adopt(c.adopted)
	c.result.Objects = make([]change.Object, len(c.steps))
	for i := range c.steps {
		st := &c.steps[i]
		s.rev++
		if st.op == change.Delete {
			if st.next.obj == nil {
				st.next.obj = st.old.obj.DeepCopyObject().(change.Object)
			}
			s.staged.remove(st.old)
		} else {
			s.staged.put(st.old, st.next)
		}
		st.next.rev = s.rev
		st.next.obj.SetResourceVersion(strconv.FormatUint(s.rev, 10))
		c.result.Objects[i] = st.next.obj
	}
	c.result.Rev = s.rev
	switch {
	case len(c.steps) == 0 && !c.check:
		c.lazy = true // it only waits for what it has read
	case s.rev > s.mark:
		c.lazy = false // it may not become visible before the mark is raised
	}
}

// batch is what one transaction of the file writes: lazy sets that are visible
// already, then the durable ones.
type batch struct {
	lazy, commits []*commit
	mark          uint64
	view          *View // the state after it
	last          bool  // the store closes
}

// lead writes the queue as one batch, publishes it, answers its callers, and
// hands the lead to one of those that have queued up meanwhile.
func (s *Store) lead() {
	s.mu.Lock()
	b := s.takeLocked()
	s.mu.Unlock()
	s.write(b)
}

// takeLocked closes the next batch: whatever is staged from now on belongs to
// another.
func (s *Store) takeLocked() *batch {
	b := &batch{lazy: s.afloat, commits: s.queue, mark: s.mark, view: s.staged.freeze(s.rev)}
	if s.rev+reserve/2 > s.mark {
		b.mark = s.rev + reserve
	}
	s.queue, s.afloat = nil, nil
	s.began = time.Now()
	return b
}

// write brings b to disk and to its end. Should the engine panic, callers do
// not wait for ever.
func (s *Store) write(b *batch) {
	err := error(&unknownError{errors.New("store: a commit panicked")})
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.finishLocked(b, err)
	}()
	failed := s.file.write(b)
	if failed == nil {
		s.verify(b)
	}
	err = failed
}

// finishLocked publishes what was written, or takes it back.
func (s *Store) finishLocked(b *batch, err error) {
	if err != nil {
		s.rollbackLocked(b, err)
		return
	}
	s.mark, s.refused = b.mark, nil
	s.publishLocked(b.view, b.commits)
	if s.file.erase.pending() {
		s.armLocked()
	}
	answer(b.commits, nil)
	if ahead, view := s.ahead, s.aheadView; len(ahead) > 0 {
		s.ahead, s.aheadView = nil, nil
		s.publishLocked(view, ahead)
		s.floatLocked(ahead)
		answer(ahead, nil)
	}
	s.passLocked()
}

// passLocked hands the lead on, or ends it.
func (s *Store) passLocked() {
	if len(s.queue) > 0 {
		s.queue[0].turn <- true
		return
	}
	s.busy, s.began = false, time.Time{}
	s.idle.Broadcast()
}

// answer tells the callers of commits how they ended. A leader is not waiting
// any more; its turn is buffered and goes unread.
func answer(commits []*commit, err error) {
	for _, c := range commits {
		if err != nil {
			c.result, c.err = Result{}, err
		}
		select {
		case c.turn <- false:
		default:
		}
	}
}

// rollbackLocked takes the state back to what is published. Everything that
// was staged upon the failed batch fails with it. The revisions are not given
// again.
func (s *Store) rollbackLocked(b *batch, err error) {
	s.failedLocked(err)
	answer(b.commits, err)
	answer(s.ahead, err)
	answer(s.queue, err)
	s.ahead, s.aheadView, s.queue, s.afloat = nil, nil, nil, b.lazy
	s.staged = thaw(s.View())
	if len(s.afloat) > 0 {
		s.armLocked()
	}
	s.passLocked()
}

// publishLocked makes a state visible, then its writes.
func (s *Store) publishLocked(view *View, commits []*commit) {
	s.view.Store(view)
	s.history.append(view.rev, commits)
}

// floatLocked remembers lazy sets until a batch takes them along.
func (s *Store) floatLocked(commits []*commit) {
	for _, c := range commits {
		if len(c.steps) == 0 {
			continue
		}
		if len(s.afloat) == 0 {
			s.armLocked()
		}
		s.afloat = append(s.afloat, c)
	}
}

func (s *Store) armLocked() {
	if s.flusher == nil {
		s.flusher = time.AfterFunc(flushAfter, s.flush)
	} else {
		s.flusher.Reset(flushAfter)
	}
}

// flush writes what has been afloat since a while, and goes on erasing.
func (s *Store) flush() {
	s.mu.Lock()
	if s.closed || s.broken != nil {
		s.mu.Unlock()
		return
	}
	if s.busy { // whoever is at work may leave something
		s.armLocked()
		s.mu.Unlock()
		return
	}
	if len(s.afloat) == 0 && !s.file.erase.pending() {
		s.mu.Unlock()
		return
	}
	s.busy = true
	b := s.takeLocked()
	s.mu.Unlock()
	s.write(b)
}
