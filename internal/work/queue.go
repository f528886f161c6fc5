// Package work is a queue of keys: a key that is added many times is handled
// once, never by two workers at a time, again when it was added meanwhile,
// with back-off when handling failed, and at the time at which its handler
// asked to be woken.
//
// Wake-up times are wall-clock times. Nothing ticks: one timer sleeps until the
// earliest of them. Recheck compares them with the clock anew, for when the
// clock was set or the machine slept.
package work

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"
)

// Backoff bounds the delay between failed attempts at one key: Min, doubled
// each time, up to Max.
type Backoff struct{ Min, Max time.Duration }

// DefaultBackoff suits handlers that fail because they lost a race.
var DefaultBackoff = Backoff{Min: time.Millisecond, Max: 30 * time.Second}

func (b Backoff) delay(failures int) time.Duration {
	d := b.Min << min(failures-1, 40)
	if d <= 0 || d > b.Max {
		return b.Max
	}
	return d
}

// Handler handles one key. It returns when the key wants to be handled again
// although nobody adds it (zero: never), or an error to be retried with
// back-off.
type Handler[K comparable] func(ctx context.Context, key K) (wakeAt time.Time, err error)

// Queue is the queue. New makes one; Run works on it.
type Queue[K comparable] struct {
	backoff Backoff

	mu      sync.Mutex
	cond    *sync.Cond // ready grew, or closed
	ready   []K        // keys to handle, oldest first
	items   map[K]*item[K]
	wakes   wakeHeap[K]
	nudge   chan struct{} // the earliest wake-up changed
	stopped bool
	waiting aside[K]
	resting []*item[K] // those that are kept for when they were handled last, the oldest first
}

// item is what the queue knows about a key that it holds for any reason.
//
//	idle ── Add, wake ──▶ queued ── worker ──▶ active ──▶ idle
//	                                 active ── Add ──▶ active+dirty ──▶ queued
type item[K comparable] struct {
	key      K
	queued   bool // in ready
	crowded  bool // in waiting.crowd
	promised bool // may step aside when it is handled next
	active   bool // being handled
	dirty    bool // added while active
	failures int
	rest     time.Duration // between two times at which it is handled, as AddEvery asks
	handled  time.Time     // last, if there is a rest
	wake     time.Time     // zero: none
	index    int           // in wakes, -1 if absent
}

// New returns an empty queue.
func New[K comparable](b Backoff) *Queue[K] {
	q := &Queue[K]{
		backoff: b,
		items:   map[K]*item[K]{},
		nudge:   make(chan struct{}, 1),
	}
	q.cond = sync.NewCond(&q.mu)
	return q
}

// Add asks for key to be handled soon.
func (q *Queue[K]) Add(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(q.itemLocked(key))
}

// AddAt asks for key to be handled at t, or earlier if that was already asked.
func (q *Queue[K]) AddAt(key K, t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakeByLocked(q.itemLocked(key), t.Round(0))
}

// AddEvery asks for key to be handled soon, or, if that was done less than d ago, when d has passed
// since: one change waits for nothing, and many are gathered.
func (q *Queue[K]) AddEvery(key K, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forgetLocked()
	it := q.itemLocked(key)
	it.rest = d
	if ago := now().Sub(it.handled); ago >= 0 && ago < d { // else the clock was set
		q.wakeByLocked(it, it.handled.Add(d))
	} else {
		q.addLocked(it)
	}
}

// forgetLocked lets go of keys that were kept for when they were handled, and may be handled again at once.
func (q *Queue[K]) forgetLocked() {
	for t := now(); len(q.resting) > 0; q.resting = q.resting[1:] {
		it := q.resting[0]
		if ago := t.Sub(it.handled); ago >= 0 && ago < it.rest {
			return // it is the oldest, or was handled again meanwhile: then the others wait a little
		}
		q.resting[0] = nil
		q.dropLocked(it)
	}
}

// dropLocked lets go of a key that nobody has asked for anything.
func (q *Queue[K]) dropLocked(it *item[K]) {
	if q.items[it.key] == it && it.wake.IsZero() && it.failures == 0 && !it.crowded && !it.queued && !it.active {
		delete(q.items, it.key)
	}
}

// Recheck looks at all wake-up times anew. Call it when the clock was set.
func (q *Queue[K]) Recheck() {
	select {
	case q.nudge <- struct{}{}:
	default:
	}
}

// Len returns how many keys are ready or being handled, and how many sleep.
func (q *Queue[K]) Len() (busy, asleep int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.queued || it.active {
			busy++
		}
	}
	return busy, len(q.wakes)
}

// Run handles keys with the given number of workers until ctx ends, and returns
// when the last handler has.
func (q *Queue[K]) Run(ctx context.Context, workers int, handle Handler[K]) error {
	var wg sync.WaitGroup
	worker := func() { wg.Go(func() { q.worker(ctx, handle) }) }
	q.mu.Lock()
	q.waiting.replace = worker
	q.mu.Unlock()
	for range workers {
		worker()
	}
	wg.Go(func() { q.waker(ctx) })
	<-ctx.Done()
	q.mu.Lock()
	q.stopped = true
	q.cond.Broadcast()
	q.mu.Unlock()
	wg.Wait()
	return context.Cause(ctx)
}

func (q *Queue[K]) worker(ctx context.Context, handle Handler[K]) {
	for {
		it := q.take()
		if it == nil {
			return
		}
		wakeAt, err := handle(context.WithValue(ctx, asideKey{}, func() (func(), bool) { return q.aside(it) }), it.key)
		q.done(it, wakeAt, err)
	}
}

// take waits for a ready key; nil when the queue stops, or this worker is one too many.
func (q *Queue[K]) take() *item[K] {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) == 0 && !q.stopped && q.waiting.surplus == 0 {
		q.cond.Wait()
	}
	if q.stopped {
		return nil
	}
	if q.waiting.surplus > 0 {
		if q.waiting.surplus--; len(q.ready) > 0 {
			q.cond.Signal() // it may have been meant for a key
		}
		return nil
	}
	key := q.ready[0]
	q.ready = q.ready[1:]
	it := q.items[key]
	it.queued, it.active, it.dirty = false, true, false
	if it.rest > 0 {
		it.handled = now()
	}
	// Whatever it was to be woken for, it is looked at now.
	q.setWakeLocked(it, time.Time{})
	return it
}

func (q *Queue[K]) done(it *item[K], wakeAt time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.active = false
	crowded := errors.Is(err, ErrCrowded)
	q.settleLocked(it, crowded)
	if err != nil && !crowded {
		it.failures++
		retry := now().Add(q.backoff.delay(it.failures))
		if wakeAt.IsZero() || retry.Before(wakeAt) {
			wakeAt = retry
		}
	} else if !crowded {
		it.failures = 0
	}
	if !wakeAt.IsZero() {
		q.wakeByLocked(it, wakeAt.Round(0))
	}
	switch {
	case it.dirty:
		q.addLocked(it)
	case it.rest > 0:
		q.resting = append(q.resting, it)
		q.forgetLocked()
	default:
		q.dropLocked(it)
	}
}

func (q *Queue[K]) itemLocked(key K) *item[K] {
	it := q.items[key]
	if it == nil {
		it = &item[K]{key: key, index: -1}
		q.items[key] = it
	}
	return it
}

func (q *Queue[K]) addLocked(it *item[K]) {
	switch {
	case it.active:
		it.dirty = true
	case !it.queued:
		it.queued = true
		q.ready = append(q.ready, it.key)
		q.cond.Signal()
	}
}

// wakeByLocked moves the key's wake-up forward to t.
func (q *Queue[K]) wakeByLocked(it *item[K], t time.Time) {
	if it.wake.IsZero() || t.Before(it.wake) {
		q.setWakeLocked(it, t)
	}
}

// setWakeLocked moves the key's wake-up to t; zero removes it.
func (q *Queue[K]) setWakeLocked(it *item[K], t time.Time) {
	it.wake = t
	switch {
	case t.IsZero() && it.index >= 0:
		heap.Remove(&q.wakes, it.index)
	case t.IsZero():
	case it.index >= 0:
		heap.Fix(&q.wakes, it.index)
	default:
		heap.Push(&q.wakes, it)
	}
	if it.index == 0 {
		q.Recheck()
	}
}

// waker adds keys whose time has come.
func (q *Queue[K]) waker(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.nudge:
		case <-timer.C:
		}
		if next := q.wakeDue(); !next.IsZero() {
			timer.Reset(next.Sub(now()))
		} else {
			timer.Stop()
		}
	}
}

// wakeDue adds every key that is due and returns the next time, zero for none.
func (q *Queue[K]) wakeDue() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := now()
	for len(q.wakes) > 0 {
		it := q.wakes[0]
		if it.wake.After(t) {
			return it.wake
		}
		q.setWakeLocked(it, time.Time{})
		q.addLocked(it)
	}
	return time.Time{}
}

// now is the wall clock: without the monotonic reading, so that differences
// follow the clock when it is set.
func now() time.Time { return time.Now().Round(0) }

type wakeHeap[K comparable] []*item[K]

func (h wakeHeap[K]) Len() int           { return len(h) }
func (h wakeHeap[K]) Less(i, j int) bool { return h[i].wake.Before(h[j].wake) }
func (h wakeHeap[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *wakeHeap[K]) Push(x any) {
	it := x.(*item[K])
	it.index = len(*h)
	*h = append(*h, it)
}

func (h *wakeHeap[K]) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	it.index = -1
	return it
}
