package store

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

// readMax bounds how many events one Next returns, and so how long it holds
// the history's lock.
const readMax = 512

// Event is one committed write.
type Event = change.Event

// retained is an event in the history.
type retained struct {
	Event
	at   time.Time // when it was committed
	size int       // of what only the history holds, encoded
}

// retainTime is how long a write is retained even if there are many: longer than a
// client takes to connect again. retainBytes is what may stay of older
// ones, so that a burst does not stay in memory for as long as nothing follows it.
const (
	retainTime  = 15 * time.Second
	retainBytes = 4 << 20
)

// history holds the latest writes, in a line for all resources and in one line
// per resource, so that a reader of one resource neither looks at nor is woken
// by the others.
type history struct {
	retain int // how many at most
	size   int // of what is held by nobody else, in bytes

	mu     sync.Mutex
	rev    uint64 // everything up to it is in the lines
	start  uint64 // the revision that the history began after
	all    line
	lines  map[change.Resource]*line
	closed bool
}

// line is a queue of events in revision order.
type line struct {
	events  []*retained // a ring of a power of two
	head    int         // position of the oldest
	n       int
	evicted uint64        // revision of the last event that was dropped
	wake    chan struct{} // closed at the next write; nil when nobody waits
}

func newHistory(retain int, rev uint64) *history {
	return &history{retain: retain, rev: rev, start: rev, lines: map[change.Resource]*line{}}
}

func (l *line) at(i int) *retained { return l.events[(l.head+i)&(len(l.events)-1)] }

func (l *line) push(e *retained) {
	if l.n == len(l.events) {
		l.resize(max(16, 2*l.n))
	}
	l.events[(l.head+l.n)&(len(l.events)-1)] = e
	l.n++
}

// resize moves the queue to a ring of n places, a power of two.
func (l *line) resize(n int) {
	ring := make([]*retained, n)
	for i := range l.n {
		ring[i] = l.at(i)
	}
	l.events, l.head = ring, 0
}

func (l *line) pop() *retained {
	e := l.events[l.head]
	l.events[l.head] = nil
	l.head = (l.head + 1) & (len(l.events) - 1)
	l.n--
	l.evicted = e.Rev
	if l.n < len(l.events)/8 && len(l.events) > 16 {
		l.resize(len(l.events) / 2)
	}
	return e
}

func (l *line) wakeAll() {
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

// line returns the line of a resource, or of all if resource is "".
func (h *history) lineLocked(resource change.Resource) *line {
	if resource == "" {
		return &h.all
	}
	l := h.lines[resource]
	if l == nil {
		l = &line{}
		h.lines[resource] = l
	}
	return l
}

// append adds the writes of commits, which lead to revision rev, and wakes who
// waits for them.
func (h *history) append(rev uint64, commits []*commit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rev = rev
	now := time.Now()
	for _, c := range commits {
		for i := range c.steps {
			st := &c.steps[i]
			e := &retained{Event: Event{Op: st.op, Key: st.next.key, Rev: st.next.rev, Object: st.next.obj}, at: now}
			if st.old != nil {
				e.Prev, e.size = st.old.obj, st.old.size
				if st.op == change.Delete {
					e.size *= 2 // Object is a copy of it
				}
			}
			own := h.lineLocked(e.Key.Resource)
			own.push(e)
			own.wakeAll()
			h.all.push(e)
			h.size += e.size
			if h.all.n > h.retain {
				h.dropLocked()
			}
		}
	}
	for h.size > retainBytes && now.Sub(h.all.at(0).at) > retainTime {
		h.dropLocked()
	}
	h.all.wakeAll()
}

// dropLocked forgets the oldest write.
func (h *history) dropLocked() {
	e := h.all.pop()
	h.lines[e.Key.Resource].pop()
	h.size -= e.size
}

// forget drops the writes from before a moment.
func (h *history) forget(before time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.all.n > 0 && h.all.at(0).at.Before(before) {
		h.dropLocked()
	}
}

func (h *history) watch(resource change.Resource, after uint64) (*Watch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if after < h.start || after < h.lineLocked(resource).evicted {
		return nil, ErrGone
	}
	return &Watch{history: h, resource: resource, rev: after}, nil
}

func (h *history) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.all.wakeAll()
	for _, l := range h.lines {
		l.wakeAll()
	}
}

// Watch reads writes in revision order at its own pace. It holds no buffer: a
// reader that falls behind the retained writes gets ErrGone and must relist.
// It needs no closing. One goroutine may use it at a time.
type Watch struct {
	history  *history
	resource change.Resource
	rev      uint64
}

// Next waits for writes and returns them, with the revision up to which the
// watch has now seen everything (for bookmarks). When ctx ends, it returns that
// revision with ctx's error, and can be called again.
func (w *Watch) Next(ctx context.Context) (events []Event, rev uint64, err error) {
	for {
		ended := ctx.Err() // before reading: what happened until then is seen
		events, wake, err := w.read()
		if err != nil || len(events) > 0 {
			return events, w.rev, err
		}
		if ended != nil {
			return nil, w.rev, ended
		}
		select {
		case <-wake:
		case <-ctx.Done():
		}
	}
}

// read returns what there is after w.rev, or what to wait for.
func (w *Watch) read() ([]Event, <-chan struct{}, error) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lineLocked(w.resource)
	switch {
	case h.closed:
		return nil, nil, ErrClosed
	case w.rev < l.evicted:
		return nil, nil, ErrGone
	}
	first := sort.Search(l.n, func(i int) bool { return l.at(i).Rev > w.rev })
	n := min(l.n-first, readMax)
	if n == 0 {
		w.rev = max(w.rev, h.rev)
		if l.wake == nil {
			l.wake = make(chan struct{})
		}
		return nil, l.wake, nil
	}
	events := make([]Event, n)
	for i := range events {
		events[i] = l.at(first + i).Event
	}
	if w.rev = events[n-1].Rev; first+n == l.n {
		w.rev = max(w.rev, h.rev)
	}
	return events, nil, nil
}
