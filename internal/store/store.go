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
// that a crash could take back (a Lazy set excepted).
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
)

// Codec turns objects into bytes and back.
type Codec interface {
	Encode(obj change.Object) ([]byte, error)
	Decode(resource string, data []byte) (change.Object, error)
}

// Options say how to open a store.
type Options struct {
	Path  string // the database file; its directory must exist
	Codec Codec
	// Index names the terms under which View.Index finds obj. May be nil.
	Index func(resource string, obj change.Object) []string
	// Retain is how many of the latest writes a watch can resume after.
	// 0 means DefaultRetain.
	Retain int
}

// ErrGone: the revision to resume a watch after is no longer retained.
var ErrGone = errors.New("store: revision is no longer retained")

// ErrClosed: the store was closed.
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

// Exists reports a Create whose key is taken, Missing an Update or Delete whose
// key is gone.
func (e *ConflictError) Exists() bool  { return e.Want == 0 }
func (e *ConflictError) Missing() bool { return e.Have == 0 }

// Result of a commit: one entry per write, in the order of the Set.
type Result struct {
	// Rev is the revision of the last write.
	Rev uint64
	// Objects holds what was committed; for a Delete the last state, at the
	// revision of its deletion.
	Objects []change.Object
}

// Store is the open database. All methods are safe for concurrent use.
type Store struct{}

// Open opens or creates the store at o.Path and loads it. It refuses a file
// that another process holds, and one of a newer format.
func Open(o Options) (*Store, error) { return nil, errors.New("store: not built") }

// Close waits for the commit under way, then closes the file. Watches end with
// ErrClosed.
func (s *Store) Close() error { return nil }

// View returns the latest committed state. It costs nothing to hold.
func (s *Store) View() *View { return nil }

// Apply commits the set whole, or returns why not: a *ConflictError, an
// encoding error, a disk error. ctx bounds the wait for a turn; once the commit
// is under way its outcome is reported, whatever ctx does.
func (s *Store) Apply(ctx context.Context, set change.Set) (Result, error) { return Result{}, nil }

// Watch returns a reader of every write after revision after, of one resource,
// or of all if resource is "". ErrGone when after is no longer retained.
func (s *Store) Watch(resource string, after uint64) (*Watch, error) { return nil, nil }

// Check verifies every invariant of the store (trees, indexes, revisions and
// the file agree). It is slow: for tests and `sampan` diagnostics.
func (s *Store) Check() error { return nil }

// View is one consistent, immutable state of the store.
type View struct{}

// Rev is the revision of the last write that the view contains.
func (v *View) Rev() uint64 { return 0 }

// Get returns the object at key.
func (v *View) Get(key change.Key) (change.Object, bool) { return nil, false }

// List yields the objects of a resource in key order (namespace, then name):
// of one namespace, or of all if namespace is "".
func (v *View) List(resource, namespace string) iter.Seq[change.Object] { return nil }

// ListFrom is List from the first key that is not before (namespace, name) of
// start on, for paging.
func (v *View) ListFrom(resource, namespace string, start change.Key) iter.Seq[change.Object] {
	return nil
}

// Len returns how many objects the resource has, in all namespaces.
func (v *View) Len(resource string) int { return 0 }

// Owned yields the objects, of any resource, that name uid in their
// ownerReferences, with their keys.
func (v *View) Owned(uid types.UID) iter.Seq2[change.Key, change.Object] { return nil }

// Index yields the objects of resource that the index function gave term.
func (v *View) Index(resource, term string) iter.Seq[change.Object] { return nil }

// Event is one committed write.
type Event struct {
	Op  change.Op
	Key change.Key
	Rev uint64
	// Object is the new state; for a Delete the last state at the revision of
	// its deletion. Prev is the state before; nil for a Create.
	Object, Prev change.Object
}

// Watch reads writes in revision order at its own pace. It holds no buffer: a
// reader that falls behind the retained writes gets ErrGone and must relist.
type Watch struct{}

// Next waits for writes and returns them, with the revision up to which the
// watch has now seen everything (for bookmarks). events may be empty when
// only other resources moved on.
func (w *Watch) Next(ctx context.Context) (events []Event, rev uint64, err error) {
	return nil, 0, nil
}
