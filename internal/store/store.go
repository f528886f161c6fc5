// Package store keeps every object on one revision line.
//
// It owns durability and order: a change.Set commits whole or not at all,
// guarded by the revisions that it was decided from; the sets of many callers
// share one fsync; every object write gets a resourceVersion of its own, so
// that a watch can resume between any two of them. Live objects are immutable
// values in copy-on-write trees, so a View is free and never blocks a writer.
//
// It invents nothing (no time, no UIDs, no names), and knows keys and owners,
// not kinds: a Codec turns objects into bytes, an index function names terms.
//
// Order of a commit: guards are checked and revisions given against the newest
// staged state; the batch is written and synced; the new state is published;
// the writers are answered; watchers are woken. Nothing is visible, to anybody,
// that a crash could take back (a Lazy set excepted). DESIGN.md in this
// directory tells how that is kept, and what happens when the disk refuses.
package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

// DefaultRetain is how many of the latest writes a watch can resume after,
// unless Options say otherwise.
const DefaultRetain = 16384

// Codec turns objects into bytes and back. The store keeps the resourceVersion
// itself: Encode sees an empty one, and what Decode leaves there is replaced.
// Both are called by several goroutines at once.
type Codec interface {
	// Knows reports whether objects of resource can be decoded. Those of others are
	// left in the file as they are, and are not in any View. What it does not know at
	// one time it may know later, see Adopt; not the other way round.
	Knows(resource change.Resource) bool
	// Encode returns bytes that it does not use again.
	Encode(obj change.Object) ([]byte, error)
	// Decode must not keep data: it is only valid during the call.
	Decode(resource change.Resource, data []byte) (change.Object, error)
}

// Options say how to open a store.
type Options struct {
	Path  string // the database file; its directory must exist
	Codec Codec
	// Index names the terms under which View.Index finds obj. May be nil. It
	// must depend on nothing but obj.
	Index func(resource change.Resource, obj change.Object) []string
	// Retain is how many of the latest writes a watch can resume after.
	// 0 means DefaultRetain.
	Retain int
	// Erase tells the resources of which nothing may stay in the file once it is
	// deleted or replaced: it is overwritten within seconds, or at Close. May be nil.
	Erase func(change.Resource) bool
	// Account returns what else has to be written, in the same commit, when writes are
	// made to the state view; a write of a key that is among them takes its place. Its
	// error refuses the set. It is asked of each set in the order in which they are
	// committed, while no other is: it has to be quick, and must not keep view. May be nil.
	Account Account
	// Reserve is how many bytes of the disk are kept for what the store has yet
	// to write, so that it goes on when others have filled the disk. 0: none.
	Reserve int64
	// Most is how many bytes the file may hold until nothing new is taken: all of it is in memory,
	// too, as objects, which are several times as large. 0: any number.
	Most int64
	// Volatile says that nobody comes back to the file: no commit waits for the disk, and
	// after a power cut it may hold anything.
	Volatile bool
	// Strict runs Check after every commit and panics when it fails. For tests.
	Strict bool

	// fault, when set, is asked before every disk call; see file.go.
	fault func(label string) error
}

// ErrGone says that the revision to resume a watch after is no longer retained, or was
// never given out by this store.
var ErrGone = errors.New("store: revision is no longer retained")

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("store: closed")

// ConflictError says that a guard of a Set did not hold; nothing was written.
type ConflictError struct {
	Key change.Key
	// Want is the revision that was read (0: absent), Have the present one.
	Want, Have uint64
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("store: %s is at revision %d, not %d", e.Key, e.Have, e.Want)
}

// Exists reports a Create whose key is taken, or a Guard of absence that does
// not hold.
func (e *ConflictError) Exists() bool { return e.Want == 0 }

// Missing reports an Update, Delete or Guard whose key is gone.
func (e *ConflictError) Missing() bool { return e.Have == 0 }

// Result of a commit: one entry per write, in the order of the Set; then what was added
// to it by Options.Account.
type Result struct {
	// Rev is the revision of the last write.
	Rev uint64
	// Objects holds what was committed; for a Delete the last state, at the
	// revision of its deletion.
	Objects []change.Object
}

// Store is the open database. All methods are safe for concurrent use.
type Store struct {
	opts    Options
	file    *file
	view    atomic.Pointer[View] // the published state
	history *history
	// warnings and notes are as of Open.
	warnings, notes []string

	// mu is held to validate and stage a set and to publish a batch, never
	// while the disk is written.
	mu     sync.Mutex
	idle   sync.Cond // signalled when busy becomes false
	staged *trees    // the newest state: published, being written, and queued
	rev    uint64    // the newest revision given
	mark   uint64    // on disk: no revision above it was ever made visible
	busy   bool      // a leader is writing
	queue  []*commit // the next batch; its first entry is durable
	closed bool
	broken error // the disk is in an unknown state; nothing is written any more
	// refused is how the last batch failed, nil if it did not; began is when the
	// leader took the one that it is writing.
	refused error
	began   time.Time
	failed  chan struct{} // closed when broken is set

	// Lazy sets. ahead were staged behind the batch being written and before
	// queue, and are published with it (aheadView); afloat are published, but
	// not on disk.
	ahead     []*commit
	aheadView *View
	afloat    []*commit
	flusher   *time.Timer // armed when something is afloat
}

// Open opens or creates the store at o.Path and loads it. It refuses a file
// that another process holds, one of a newer format (a *FormatError), and one that
// does not hold exactly what was written to it (a *DamagedError).
func Open(o Options) (*Store, error) {
	if o.Codec == nil {
		return nil, errors.New("store: no codec")
	}
	if o.fault == nil {
		o.fault = builtFault()
	}
	if o.Retain <= 0 {
		o.Retain = DefaultRetain
	}
	s := &Store{opts: o, staged: newTrees(), failed: make(chan struct{})}
	s.idle.L = &s.mu
	f, c, err := openFile(o, s.decode)
	if err != nil {
		return nil, err
	}
	f.erase.wanted = o.Erase
	s.file, s.warnings, s.notes = f, c.warnings, c.notes
	s.staged.opaque = newOpaque(c.opaque)
	for _, it := range c.items {
		s.staged.put(nil, it)
	}
	s.rev, s.mark = c.seal.mark, c.seal.mark
	s.history = newHistory(o.Retain, s.rev)
	s.view.Store(s.staged.freeze(s.rev))
	if f.erase.due = o.Erase != nil; f.erase.due { // a crash may have come before the end
		s.mu.Lock()
		s.armLocked()
		s.mu.Unlock()
	}
	return s, nil
}

// decode reads one entry of the file.
func (s *Store) decode(k, v []byte) (*item, error) {
	it, err := decode(s.opts.Codec, k, v)
	if err == nil {
		s.describe(it)
	}
	return it, err
}

// Warnings returns what is wrong with the file and has cost nothing.
func (s *Store) Warnings() []string { return s.warnings }

// Notes returns what is not as usual with the file, and not wrong.
func (s *Store) Notes() []string { return s.notes }

// Close waits for the commits under way, writes what lazy sets left, and
// closes the file. Watches end with ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for s.busy {
		s.idle.Wait()
	}
	if s.flusher != nil {
		s.flusher.Stop()
	}
	last := &batch{lazy: s.afloat, mark: s.rev, last: true}
	broken := s.broken
	s.mu.Unlock()

	s.history.close()
	err := broken
	if err == nil {
		err = s.file.write(last)
	}
	return errors.Join(err, s.file.close())
}

// View returns the latest committed state. It costs nothing to hold.
func (s *Store) View() *View { return s.view.Load() }

// Apply commits the set whole, or returns why not: a *ConflictError, what
// Options.Account answers, an encoding error, a disk error. ctx bounds the wait for a turn; once the commit
// is under way its outcome is reported, whatever ctx does.
//
// What Apply returns is visible in View and to watches. A Lazy set waits only for
// the sets that were staged before it. After a disk error nothing of the set is
// visible, and the store goes on when the disk does; but when the disk failed
// to say whether it holds the set, every later Apply returns that error.
func (s *Store) Apply(ctx context.Context, set change.Set) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	c, err := s.prepare(&set)
	if err != nil {
		return Result{}, err
	}
	if err := s.run(c); err != nil {
		return Result{}, err
	}
	return c.result, nil
}

// run brings c to its end: it waits for c's turn, and leads if it is told to.
func (s *Store) run(c *commit) error {
	lead, err := s.submit(c)
	if err != nil {
		return err
	}
	if !lead {
		lead = <-c.turn
	}
	if lead {
		s.lead()
	}
	return c.err
}

// Watch returns a reader of every write after revision after, of one resource,
// or of all if resource is "". ErrGone when after is no longer retained.
func (s *Store) Watch(resource change.Resource, after uint64) (*Watch, error) {
	if after > s.View().Rev() {
		return nil, ErrGone
	}
	return s.history.watch(resource, after)
}
