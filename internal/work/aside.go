package work

import (
	"context"
	"errors"
)

// mostAside is how many handlers may stand aside at a time.
const mostAside = 128

// ErrCrowded is what a handler returns that would have had to step aside, and was not let: its
// key is handled again when it may, in the order of those who wait for that.
var ErrCrowded = errors.New("too many wait for somebody else")

// aside is what a queue knows of handlers that stand aside.
type aside[K comparable] struct {
	replace  func()     // starts another worker
	standing int        // handlers in whose place another worker is
	promised int        // keys that may step aside when they are handled next
	surplus  int        // workers that are one too many
	crowd    []*item[K] // who waits for a place, first come first
}

// asideKey is under which the context of a handler has what lets it step aside.
type asideKey struct{}

// Aside lets another worker take the place of the one whose handler was given ctx, which waits for
// somebody who may not answer: as many keys as before are handled meanwhile. The handler calls
// back when it goes on. It is not ok when too many stand aside already.
func Aside(ctx context.Context) (back func(), ok bool) {
	step, inside := ctx.Value(asideKey{}).(func() (func(), bool))
	if !inside {
		return func() {}, true // nobody's work
	}
	return step()
}

func (q *Queue[K]) aside(it *item[K]) (back func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := &q.waiting
	switch {
	case it.promised:
		it.promised = false
		w.promised--
	case w.standing+w.promised >= mostAside:
		return nil, false
	}
	w.standing++
	w.replace()
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		w.standing--
		w.surplus++
		q.cond.Signal()
		q.inviteLocked()
	}, true
}

// settleLocked is about a key that was handled: it gives back a promise that it did not need, and
// stands in line if it was not let aside.
func (q *Queue[K]) settleLocked(it *item[K], crowded bool) {
	if it.promised {
		it.promised = false
		q.waiting.promised--
	}
	if crowded && !it.crowded {
		it.crowded = true
		q.waiting.crowd = append(q.waiting.crowd, it)
	}
	q.inviteLocked()
}

// inviteLocked has the keys handled for which there is a place.
func (q *Queue[K]) inviteLocked() {
	w := &q.waiting
	for len(w.crowd) > 0 && w.standing+w.promised < mostAside {
		it := w.crowd[0]
		w.crowd[0] = nil
		if w.crowd = w.crowd[1:]; len(w.crowd) == 0 {
			w.crowd = nil
		}
		it.crowded, it.promised = false, true
		w.promised++
		q.addLocked(it)
	}
}
