package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

// drain reads a watch to its present end.
func drain(t *testing.T, w *Watch) (events []Event, rev uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		some, rev, err := w.Next(ctx)
		events = append(events, some...)
		if errors.Is(err, context.Canceled) {
			return events, rev
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func mustWatch(t *testing.T, s *Store, resource change.Resource, after uint64) *Watch {
	t.Helper()
	w, err := s.Watch(resource, after)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func describeEvents(events []Event) (lines []string) {
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%d %d %s %s<%s %s", e.Rev, e.Op, e.Key, valueOf(e.Object), valueOf(e.Prev), e.Object.GetResourceVersion()))
	}
	return lines
}

func TestWatchResumesBetweenAnyTwoWrites(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{})
	a, b := key("pods", "a"), key("jobs.batch", "b")
	var set change.Set
	set.Create(a, object(a, "1"))
	set.Create(b, object(b, "1"))
	mustApply(t, s, set)
	set = change.Set{Lazy: true}
	set.Update(a, 1, object(a, "2"))
	set.Delete(b, 2)
	mustApply(t, s, set)
	mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Delete, Key: a, Rev: 3}}})

	want := []string{
		"1 1 pods/ns/a 1<- 1",
		"2 1 jobs.batch/ns/b 1<- 2",
		"3 2 pods/ns/a 2<1 3",
		"4 3 jobs.batch/ns/b 1<1 4",
		"5 3 pods/ns/a 2<2 5",
	}
	for after := range uint64(6) {
		events, rev := drain(t, mustWatch(t, s, "", after))
		if got := describeEvents(events); !slices.Equal(got, want[after:]) || rev != 5 {
			t.Errorf("after %d: up to %d %q", after, rev, got)
		}
		events, rev = drain(t, mustWatch(t, s, "jobs.batch", after))
		var jobs []string
		for _, i := range []uint64{1, 3} {
			if i >= after {
				jobs = append(jobs, want[i])
			}
		}
		if got := describeEvents(events); !slices.Equal(got, jobs) || rev != 5 {
			t.Errorf("jobs after %d: up to %d %q", after, rev, got)
		}
	}
	if _, err := s.Watch("", 6); !errors.Is(err, ErrGone) {
		t.Errorf("a revision that was never given: %v", err)
	}
}

func TestWatchAfterRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	mustApply(t, s, createSet(key("pods", "a"), "1", false))
	res := mustApply(t, s, createSet(key("pods", "b"), "1", false))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Path: path})
	if _, err := s.Watch("pods", res.Rev-1); !errors.Is(err, ErrGone) {
		t.Errorf("watch from before the restart: %v", err)
	}
	w := mustWatch(t, s, "pods", s.View().Rev())
	mustApply(t, s, createSet(key("pods", "c"), "1", false))
	if events, _ := drain(t, w); len(events) != 1 || events[0].Key.Name != "c" {
		t.Errorf("after the restart: %v", describeEvents(events))
	}
}

func TestSlowWatchIsGone(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Retain: 4})
	mustApply(t, s, createSet(key("jobs.batch", "quiet"), "1", false))
	slow, quiet := mustWatch(t, s, "pods", 1), mustWatch(t, s, "jobs.batch", 1)
	for i := range 5 {
		mustApply(t, s, createSet(key("pods", fmt.Sprint(i)), "1", i%2 == 0))
	}
	if _, _, err := slow.Next(context.Background()); !errors.Is(err, ErrGone) {
		t.Errorf("a reader that is too slow: %v", err)
	}
	if _, err := s.Watch("", 1); !errors.Is(err, ErrGone) {
		t.Errorf("a watch from too far back: %v", err)
	}
	if events, _ := drain(t, mustWatch(t, s, "", 2)); len(events) != 4 {
		t.Errorf("%d of 4 retained writes", len(events))
	}
	// A reader that missed nothing is not cut, however much others wrote.
	if events, rev := drain(t, quiet); len(events) != 0 || rev != 6 {
		t.Errorf("quiet watch: %v up to %d", describeEvents(events), rev)
	}
}

func TestWatchWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, Options{})
		w := mustWatch(t, s, "pods", 0)
		type next struct {
			events []Event
			rev    uint64
			err    error
		}
		got := make(chan next, 1)
		read := func(ctx context.Context) {
			go func() {
				events, rev, err := w.Next(ctx)
				got <- next{events, rev, err}
			}()
			synctest.Wait()
		}
		read(context.Background())
		mustApply(t, s, createSet(key("jobs.batch", "other"), "1", false))
		synctest.Wait()
		if len(got) != 0 {
			t.Errorf("woken by another resource: %+v", <-got)
		}
		mustApply(t, s, createSet(key("pods", "a"), "1", false))
		if n := <-got; len(n.events) != 1 || n.rev != 2 || n.err != nil {
			t.Errorf("woken with %+v", n)
		}

		// A deadline is for bookmarks: the watch goes on afterwards.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		read(ctx)
		mustApply(t, s, createSet(key("jobs.batch", "more"), "1", false))
		if n := <-got; !errors.Is(n.err, context.DeadlineExceeded) || n.rev != 3 {
			t.Errorf("at the deadline: %+v", n)
		}
		read(context.Background())
		s.Close()
		if n := <-got; !errors.Is(n.err, ErrClosed) {
			t.Errorf("at the end: %+v", n)
		}
		if _, err := s.Watch("", 3); !errors.Is(err, ErrClosed) {
			t.Errorf("watch after close: %v", err)
		}
	})
}

// Many readers see every write once, in order, while many write.
func TestWatchersSeeEveryWriteOnce(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: jsonCodec{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const writers, each, watchers = 8, 50, 5
	results := make(chan error, watchers)
	for i := range watchers {
		w := mustWatch(t, s, []change.Resource{"", "pods"}[i%2], 0)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			seen, last := 0, uint64(0)
			for seen < writers*each {
				events, rev, err := w.Next(ctx)
				if err != nil {
					results <- fmt.Errorf("after %d events: %w", seen, err)
					return
				}
				for _, e := range events {
					if e.Rev != last+1 {
						results <- fmt.Errorf("revision %d after %d", e.Rev, last)
						return
					}
					last, seen = e.Rev, seen+1
				}
				if v := s.View().Rev(); v < last || rev < last {
					results <- fmt.Errorf("event %d seen with a view at %d, up to %d", last, v, rev)
					return
				}
			}
			results <- nil
		}()
	}
	for w := range writers {
		go func() {
			for i := range each {
				s.Apply(context.Background(), createSet(key("pods", fmt.Sprint(w, "-", i)), "1", i%2 == 0))
			}
		}()
	}
	for range watchers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestHistoryLetsGoOfWhatIsDeleted: what is deleted is nobody's but the history's.
func TestHistoryLetsGoOfWhatIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, Options{})
		defer s.Close()
		value := strings.Repeat("x", 64<<10)
		const n = 3 * retainBytes / (64 << 10)
		for i := range n {
			pod := key("pods", fmt.Sprint("p", i))
			mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Create, Key: pod, Object: object(pod, value)}}})
		}
		if size := s.history.size; size != 0 {
			t.Errorf("%d bytes are held that the store holds anyway", size)
		}
		for i := range uint64(n) {
			mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Delete, Key: key("pods", fmt.Sprint("p", i)), Rev: i + 1}}})
		}
		after := s.View().Rev()
		time.Sleep(retainTime + time.Second)
		lease := key("leases.coordination.k8s.io", "l")
		mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Create, Key: lease, Object: object(lease, "")}}})
		if size := s.history.size; size > retainBytes || size < retainBytes*9/10 {
			t.Errorf("%d bytes are retained", size)
		}
		const kept = retainBytes / (2 * 65 << 10) // as it was, and as it was deleted
		events, _ := drain(t, mustWatch(t, s, "pods", after-kept/2))
		if len(events) != kept/2 || events[0].Op != change.Delete {
			t.Errorf("%d of the last %d deletes are retained", len(events), kept/2)
		}
		if _, err := s.Watch("pods", after-2*kept); !errors.Is(err, ErrGone) {
			t.Errorf("more than %d deletes are retained: %v", 2*kept, err)
		}
	})
}

// TestHistoryLetsGo: a burst is retained for retainTime whatever its size, then no
// more of it than retainBytes; who has to resume before that is told so.
func TestHistoryLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, Options{})
		defer s.Close()
		pod := key("pods", "p")
		value := strings.Repeat("x", 64<<10)
		const writes = 3 * retainBytes / (64 << 10)
		mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Create, Key: pod, Object: object(pod, value)}}})
		for rev := range uint64(writes - 1) {
			mustApply(t, s, change.Set{Writes: []change.Write{{Op: change.Update, Key: pod, Rev: rev + 1, Object: object(pod, value)}}})
		}
		lease := key("leases.coordination.k8s.io", "l")
		next := change.Write{Op: change.Create, Key: lease, Object: object(lease, "")}
		heartbeat := func() {
			mustApply(t, s, change.Set{Writes: []change.Write{next}})
			next = change.Write{Op: change.Update, Key: lease, Rev: s.View().Rev(), Object: object(lease, "")}
		}
		time.Sleep(retainTime)
		heartbeat()
		if events, _ := drain(t, mustWatch(t, s, "pods", 0)); len(events) != writes {
			t.Errorf("after %v: %d writes of %d", retainTime, len(events), writes)
		}
		time.Sleep(time.Second)
		heartbeat()
		if _, err := s.Watch("pods", 0); !errors.Is(err, ErrGone) {
			t.Errorf("later: a watch from the beginning: %v", err)
		}
		if size := s.history.size; size > retainBytes || size < retainBytes*9/10 {
			t.Errorf("later: %d bytes are retained", size)
		}
		events, _ := drain(t, mustWatch(t, s, "pods", writes*3/4))
		if len(events) != writes/4 {
			t.Errorf("later: %d writes, want the last %d", len(events), writes/4)
		}
		for _, l := range []*line{&s.history.all, s.history.lines["pods"]} {
			if len(l.events) > 8*max(l.n, 16) {
				t.Errorf("a ring of %d for %d events", len(l.events), l.n)
			}
		}
	})
}
