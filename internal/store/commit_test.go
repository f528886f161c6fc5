package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

// faultyDisk stands before the file: it counts transactions, holds them up and fails
// them.
type faultyDisk struct {
	mu    sync.Mutex
	begun int
	hold  chan struct{} // a transaction waits until it is closed; nil: it does not
	fail  map[string]error
}

func (d *faultyDisk) fault(label string) error {
	d.mu.Lock()
	hold, err := d.hold, d.fail[label]
	if label == faultBegin {
		d.begun++
	} else {
		hold = nil
	}
	d.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return err
}

// stop holds up transactions until the function that it returns is called.
func (d *faultyDisk) stop() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold = make(chan struct{})
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		close(d.hold)
		d.hold = nil
	}
}

func (d *faultyDisk) set(label string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = map[string]error{label: err}
}

func (d *faultyDisk) transactions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun
}

func createSet(k change.Key, value string, lazy bool) change.Set {
	set := change.Set{Lazy: lazy}
	set.Create(k, object(k, value))
	return set
}

// started is an Apply under way.
type started struct {
	res  Result
	err  error
	done atomic.Bool
}

func start(s *Store, set change.Set) *started {
	a := &started{}
	go func() {
		a.res, a.err = s.Apply(context.Background(), set)
		a.done.Store(true)
	}()
	synctest.Wait()
	return a
}

func has(s *Store, k change.Key) bool {
	_, ok := s.View().Get(k)
	return ok
}

func TestManySetsShareOneSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &faultyDisk{}
		s := mustOpen(t, Options{fault: d.fault})
		release := d.stop()
		var all []*started
		for i := range 64 {
			all = append(all, start(s, createSet(key("pods", fmt.Sprint(i)), "", false)))
		}
		if s.View().Len("pods") != 0 || all[0].done.Load() || d.transactions() != 1 {
			t.Errorf("while the disk works: %d visible, %d transactions", s.View().Len("pods"), d.transactions())
		}
		release()
		synctest.Wait()
		if got := d.transactions(); got != 2 {
			t.Errorf("%d transactions for 64 sets, want the first one's and one for the rest", got)
		}
		for i, a := range all {
			if !a.done.Load() || a.err != nil || a.res.Rev != uint64(i+1) {
				t.Errorf("set %d: %+v", i, a)
			}
		}
	})
}

// A state that has been replaced is nobody's: whatever was deleted since would stay
// in memory with it.
func TestFormerStatesAreLetGo(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := &faultyDisk{}
			s := mustOpen(t, Options{fault: d.fault})
			mustApply(t, s, createSet(key("pods", "a"), "", false))
			release := d.stop()
			first := start(s, createSet(key("pods", "b"), "", false))
			ahead := start(s, createSet(key("events", "e"), "", true)) // with a state of its own
			if fails {
				d.set(faultCommit, syscall.ENOSPC)
			}
			release()
			synctest.Wait()
			if !first.done.Load() || !ahead.done.Load() || (first.err != nil) != fails {
				t.Fatalf("%+v %+v", first, ahead)
			}
			d.set("", nil)
			old := weak.Make(s.View())
			mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Delete, Key: key("pods", "a"), Rev: 1}}})
			time.Sleep(2 * flushAfter)
			synctest.Wait()
			for range 3 {
				runtime.GC()
			}
			if v := old.Value(); v != nil {
				t.Errorf("fails %v: the state of revision %d is held, the store is at %d", fails, v.Rev(), s.View().Rev())
			}
		})
	}
}

// What is staged while a batch is written is not visible with that batch.
func TestOnlyWhatIsOnDiskIsVisible(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := mustOpen(t, Options{fault: func(label string) error {
			if label == faultBegin {
				<-gate
			}
			return nil
		}})
		first := start(s, createSet(key("pods", "a"), "", false))
		second := start(s, createSet(key("pods", "b"), "", false))
		w := mustWatch(t, s, "", 0)
		for i, a := range []*started{first, second} {
			if a.done.Load() || s.View().Len("pods") != i || s.View().Rev() != uint64(i) {
				t.Errorf("%d batches on disk: %d objects at revision %d", i, s.View().Len("pods"), s.View().Rev())
			}
			if events, rev := drain(t, w); rev != uint64(i) || len(events) != min(i, 1) {
				t.Errorf("%d batches on disk: watched %v up to %d", i, describeEvents(events), rev)
			}
			gate <- struct{}{}
			synctest.Wait()
			if !a.done.Load() || a.err != nil {
				t.Errorf("set %d is on disk: %+v", i, a)
			}
		}
		close(gate)
	})
}

func TestLazyIsVisibleAtOnceAndRidesAlong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &faultyDisk{}
		s := mustOpen(t, Options{fault: d.fault})
		mustApply(t, s, createSet(key("pods", "first"), "", false)) // reserves revisions
		release := d.stop()
		lazy := start(s, createSet(key("events", "a"), "", true))
		if !lazy.done.Load() || !has(s, key("events", "a")) || d.transactions() != 1 {
			t.Fatalf("a lazy set waits: %+v, %d transactions", lazy, d.transactions())
		}
		durable := start(s, createSet(key("pods", "second"), "", false))
		// Staged behind a durable set, a lazy one is visible with it, not before.
		behind := start(s, createSet(key("events", "b"), "", true))
		if behind.done.Load() || has(s, key("events", "b")) {
			t.Error("a lazy set overtook a durable one")
		}
		release()
		synctest.Wait()
		if !durable.done.Load() || !behind.done.Load() || d.transactions() != 2 {
			t.Errorf("%+v %+v, %d transactions", durable, behind, d.transactions())
		}
		if durable.res.Rev != 3 || behind.res.Rev != 4 || s.View().Rev() != 4 {
			t.Errorf("revisions %d %d, view %d", durable.res.Rev, behind.res.Rev, s.View().Rev())
		}
		// Nothing follows: the rest is flushed.
		time.Sleep(2 * flushAfter)
		synctest.Wait()
		if d.transactions() != 3 {
			t.Errorf("%d transactions after a pause", d.transactions())
		}
	})
}

// snapshot opens what a crash at this moment would leave.
func snapshot(t *testing.T, s *Store) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crashed")
	copyFile(t, s.file.path, path)
	return mustOpen(t, Options{Path: path})
}

func TestCrashLosesOnlyWhatIsLazy(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{})
	mustApply(t, s, createSet(key("pods", "first"), "", false))
	made := mustApply(t, s, createSet(key("events", "a"), "1", true))
	gone := mustApply(t, s, change.Set{Lazy: true, Writes: []change.Write{{Op: change.Delete, Key: key("events", "a"), Rev: made.Rev}}})

	after := snapshot(t, s)
	if has(after, key("events", "a")) || !has(after, key("pods", "first")) {
		t.Error("lost or kept the wrong things")
	}
	if after.View().Rev() < gone.Rev {
		t.Errorf("opened at revision %d, but %d was seen", after.View().Rev(), gone.Rev)
	}
	if _, err := after.Watch("", gone.Rev); !errors.Is(err, ErrGone) {
		t.Errorf("watch after a lost revision: %v", err)
	}
	if res := mustApply(t, after, createSet(key("pods", "next"), "", false)); res.Rev <= gone.Rev {
		t.Errorf("revision %d was given twice", res.Rev)
	}

	// A durable set takes along what it depends on.
	made = mustApply(t, s, createSet(key("events", "b"), "1", true))
	mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Update, Key: key("events", "b"), Rev: made.Rev, Object: object(key("events", "b"), "2")}}})
	if obj, ok := snapshot(t, s).View().Get(key("events", "b")); !ok || valueOf(obj) != "2" {
		t.Errorf("after a durable update of a lazy object: %v", obj)
	}
}

func TestLazyDoesNotOutrunTheMark(t *testing.T) {
	t.Parallel()
	d := &faultyDisk{}
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: jsonCodec{}, fault: d.fault})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range reserve + 10 {
		res := mustApply(t, s, createSet(key("events", fmt.Sprint(i)), "", true))
		s.mu.Lock()
		mark := s.mark
		s.mu.Unlock()
		if res.Rev > mark {
			t.Fatalf("revision %d is visible, %d is reserved", res.Rev, mark)
		}
	}
	if d.transactions() < 2 {
		t.Error("no revisions were reserved")
	}
}

func TestCloseWritesWhatIsLazy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	mustApply(t, s, createSet(key("pods", "first"), "", false))
	res := mustApply(t, s, createSet(key("events", "a"), "", true))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(context.Background(), createSet(key("pods", "late"), "", false)); !errors.Is(err, ErrClosed) {
		t.Errorf("apply after close: %v", err)
	}
	s = mustOpen(t, Options{Path: path})
	if !has(s, key("events", "a")) || s.View().Rev() != res.Rev {
		t.Errorf("reopened at %d, want %d", s.View().Rev(), res.Rev)
	}
}

func TestCloseWaitsForCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &faultyDisk{}
		s := mustOpen(t, Options{fault: d.fault})
		release := d.stop()
		first := start(s, createSet(key("pods", "a"), "", false))
		second := start(s, createSet(key("pods", "b"), "", false))
		var closed atomic.Bool
		go func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			closed.Store(true)
		}()
		synctest.Wait()
		if closed.Load() {
			t.Error("closed under a commit")
		}
		release()
		synctest.Wait()
		if !closed.Load() || first.err != nil || second.err != nil || !second.done.Load() {
			t.Errorf("closed %t; %v; %v", closed.Load(), first.err, second.err)
		}
	})
}

// A full disk fails the batch that it refuses and what was staged upon it;
// nothing else is lost, and writing goes on when there is space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, label := range []string{faultBegin, faultPut, faultCommit} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &faultyDisk{}
				path := filepath.Join(t.TempDir(), "store.db")
				s := mustOpen(t, Options{Path: path, fault: d.fault})
				mustApply(t, s, createSet(key("pods", "kept"), "1", false))
				mustApply(t, s, createSet(key("events", "afloat"), "1", true))
				w, err := s.Watch("", s.View().Rev())
				if err != nil {
					t.Fatal(err)
				}

				release := d.stop()
				d.set(label, syscall.ENOSPC)
				failed := []*started{
					start(s, createSet(key("pods", "a"), "", false)),
					start(s, createSet(key("events", "a"), "", true)),
					start(s, createSet(key("pods", "b"), "", false)),
					start(s, createSet(key("events", "b"), "", true)),
				}
				release()
				synctest.Wait()
				for i, a := range failed {
					if !errors.Is(a.err, syscall.ENOSPC) || !strings.Contains(a.err.Error(), path) {
						t.Errorf("set %d: %v", i, a.err)
					}
				}
				if s.View().Len("pods") != 1 || s.View().Len("events") != 1 {
					t.Error("a failed set is visible")
				}

				d.set("", nil)
				res := mustApply(t, s, createSet(key("pods", "a"), "2", false))
				events, _, err := w.Next(context.Background())
				if err != nil || len(events) != 1 || events[0].Rev != res.Rev {
					t.Errorf("watched %v, %v", events, err)
				}
				if res.Rev != 7 {
					t.Errorf("revision %d after 2 sets and 4 that failed", res.Rev)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = mustOpen(t, Options{Path: path})
				if s.View().Len("pods") != 2 || !has(s, key("events", "afloat")) {
					t.Error("something is lost")
				}
			})
		})
	}
}

// A conflict with a set that is not on disk yet is answered when it is, so that
// reading again shows the reason; if it fails, the answer is that failure.
func TestConflictWaitsForItsReason(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := &faultyDisk{}
			s := mustOpen(t, Options{fault: d.fault})
			k := key("pods", "a")
			release := d.stop()
			first := start(s, createSet(k, "1", false))
			second := start(s, createSet(k, "2", false))
			guard := start(s, change.Set{Guards: []change.Guard{{Key: k, Rev: 1}}})
			if second.done.Load() || guard.done.Load() {
				t.Fatal("answered from what is not on disk")
			}
			if fails {
				d.set(faultCommit, syscall.ENOSPC)
			}
			release()
			synctest.Wait()
			var conflict *ConflictError
			switch {
			case fails && (!errors.Is(second.err, syscall.ENOSPC) || !errors.Is(guard.err, syscall.ENOSPC)):
				t.Errorf("first failed: %v; second: %v; guard: %v", first.err, second.err, guard.err)
			case !fails && (!errors.As(second.err, &conflict) || !conflict.Exists() || guard.err != nil):
				t.Errorf("second: %v; guard: %v", second.err, guard.err)
			}
		})
	}
}

func TestMalformedSets(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{})
	a := key("pods", "a")
	twice := createSet(a, "", false)
	for i := range 10 {
		k := key("pods", fmt.Sprint(i))
		twice.Create(k, object(k, ""))
	}
	twice.Delete(a, 1)
	for name, set := range map[string]change.Set{
		"store: one set writes pods/ns/a twice":            {Writes: []change.Write{{Op: change.Create, Key: a, Object: object(a, "")}, {Op: change.Delete, Key: a, Rev: 1}}},
		"one set writes pods/ns/a twice":                   twice,
		"without an object":                                {Writes: []change.Write{{Op: change.Create, Key: a}}},
		"has no operation":                                 {Writes: []change.Write{{Key: a, Object: object(a, "")}}},
		"object ns/b written as pods/ns/a":                 {Writes: []change.Write{{Op: change.Create, Key: a, Object: object(key("", "b"), "")}}},
		"an update or delete the one that was read":        {Writes: []change.Write{{Op: change.Update, Key: a, Object: object(a, "")}}},
		"store: write of pods/ns/a: a create has no revis": {Writes: []change.Write{{Op: change.Create, Key: a, Rev: 1, Object: object(a, "")}}},
		"has no valid key":                                 {Writes: []change.Write{{Op: change.Delete, Key: key("pods", "a\x00b"), Rev: 1}}},
	} {
		if _, err := s.Apply(context.Background(), set); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Apply(ctx, createSet(a, "", false)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if s.View().Rev() != 0 {
		t.Error("something was written")
	}
}

// Concurrent read-modify-write: every increment counts once, and a sum that
// every set keeps is kept in every view.
func TestConcurrentAppliesAreSerial(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: jsonCodec{}, Index: indexData})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const writers, each, total = 8, 40, 100
	left, right, count := key("accounts", "left"), key("accounts", "right"), key("counters", "c")
	var set change.Set
	set.Create(left, object(left, fmt.Sprint(total)))
	set.Create(right, object(right, "0"))
	set.Create(count, object(count, "0"))
	mustApply(t, s, set)

	number := func(v *View, k change.Key) (n int, rev uint64) {
		obj, _ := v.Get(k)
		fmt.Sscan(obj.(*corev1.ConfigMap).Data["value"], &n)
		fmt.Sscan(obj.GetResourceVersion(), &rev)
		return n, rev
	}
	var conflicts atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				v := s.View()
				l, lrev := number(v, left)
				r, rrev := number(v, right)
				n, nrev := number(v, count)
				if l+r != total {
					t.Errorf("revision %d: %d + %d is not %d", v.Rev(), l, r, total)
					return
				}
				var set change.Set
				set.Update(left, lrev, object(left, fmt.Sprint(l-w)))
				set.Update(right, rrev, object(right, fmt.Sprint(r+w)))
				set.Update(count, nrev, object(count, fmt.Sprint(n+1)))
				set.Lazy = done%3 == 0
				_, err := s.Apply(context.Background(), set)
				var conflict *ConflictError
				switch {
				case err == nil:
					done++
				case errors.As(err, &conflict):
					conflicts.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n, _ := number(s.View(), count); n != writers*each {
		t.Errorf("counted %d, want %d (%d conflicts)", n, writers*each, conflicts.Load())
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
