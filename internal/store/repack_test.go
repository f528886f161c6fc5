package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

func TestRepack(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{})
	a, b := key("pods", "a"), key("pods", "b")
	mustApply(t, s, change.Set{Writes: []change.Write{
		{Op: change.Create, Key: a, Object: object(a, "1")}, {Op: change.Create, Key: b, Object: object(b, "2")},
	}})
	before := s.View()
	if done, err := s.Repack(); !done || err != nil {
		t.Fatalf("at rest: %v, %v", done, err)
	}
	after := s.View()
	for _, k := range []change.Key{a, b} {
		old, _ := before.Get(k)
		got, ok := after.Get(k)
		if !ok || got == old || valueOf(got) != valueOf(old) || got.GetResourceVersion() != old.GetResourceVersion() {
			t.Errorf("%s: %v, was %v", k, got, old)
		}
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	// What was read before can be written after, and the history is whole.
	mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Update, Key: a, Rev: 1, Object: object(a, "3")}, {Op: change.Delete, Key: b, Rev: 2}}})
	if events, _ := drain(t, mustWatch(t, s, "pods", 0)); len(events) != 4 {
		t.Errorf("history: %v", describeEvents(events))
	}
}

// TestRepackForgets: the history lets go of what it need not keep.
func TestRepackForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, Options{})
		defer s.Close()
		create := func(name string) {
			k := key("pods", name)
			mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Create, Key: k, Object: object(k, "1")}}})
		}
		create("a")
		time.Sleep(retainTime / 2)
		create("b")
		time.Sleep(retainTime/2 + time.Second)
		if _, err := s.Repack(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Watch("pods", 0); !errors.Is(err, ErrGone) {
			t.Errorf("a watch from before the older write: %v", err)
		}
		if events, _ := drain(t, mustWatch(t, s, "pods", 1)); len(events) != 1 || events[0].Key.Name != "b" {
			t.Errorf("the newer write: %v", describeEvents(events))
		}
		mustWatch(t, s, "leases", 0) // of which nothing was forgotten
	})
}

// TestRepackGivesWay: nothing that is written meanwhile is lost or waits.
func TestRepackGivesWay(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{})
	a, lazy := key("pods", "a"), key("events", "e")
	mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Create, Key: a, Object: object(a, "1")}}})
	mustApply(t, s, change.Set{Lazy: true, Writes: []change.Write{{Op: change.Create, Key: lazy, Object: object(lazy, "1")}}})
	if done, err := s.Repack(); done || err != nil {
		t.Errorf("with a lazy set that is not on disk: %v, %v", done, err)
	}
	ended := make(chan error, 1)
	go func() {
		for rev := range uint64(200) {
			next := change.Write{Op: change.Update, Key: a, Rev: 1, Object: object(a, "x")}
			if rev > 0 {
				next.Rev = s.View().Rev()
			}
			if _, err := s.Apply(context.Background(), change.Set{Writes: []change.Write{next}}); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	done := 0
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			t.Logf("%d times between 200 writes", done)
			return
		default:
			ok, err := s.Repack()
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				done++
			}
		}
	}
}
