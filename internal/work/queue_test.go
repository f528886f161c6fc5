package work

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// run starts the queue in the test's bubble and stops it at the end.
func run[K comparable](t *testing.T, q *Queue[K], workers int, h Handler[K]) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, workers, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want context.Canceled", err)
		}
	})
}

func TestManyAddsAreHandledOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New[string](DefaultBackoff)
		var mu sync.Mutex
		got := map[string]int{}
		for range 100 {
			q.Add("a")
			q.Add("b")
		}
		run(t, q, 4, func(_ context.Context, key string) (time.Time, error) {
			mu.Lock()
			defer mu.Unlock()
			got[key]++
			return time.Time{}, nil
		})
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if got["a"] != 1 || got["b"] != 1 {
			t.Errorf("handled %v, want each once", got)
		}
		if busy, asleep := q.Len(); busy != 0 || asleep != 0 || len(q.items) != 0 {
			t.Errorf("busy %d, asleep %d, %d items kept", busy, asleep, len(q.items))
		}
	})
}

func TestOneWorkerPerKeyAndAgainWhenDirty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New[string](DefaultBackoff)
		var mu sync.Mutex
		running, runs := 0, 0
		run(t, q, 8, func(context.Context, string) (time.Time, error) {
			mu.Lock()
			running++
			runs++
			if running > 1 {
				t.Error("two workers on one key")
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return time.Time{}, nil
		})
		q.Add("a")
		time.Sleep(500 * time.Millisecond)
		q.Add("a")
		q.Add("a")
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if runs != 2 {
			t.Errorf("%d runs, want 2", runs)
		}
	})
}

func TestWakesExactlyWhenAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		q := New[string](DefaultBackoff)
		var mu sync.Mutex
		var at []time.Duration
		run(t, q, 2, func(_ context.Context, key string) (time.Time, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
			if len(at) < 4 {
				return time.Now().Add(24 * time.Hour), nil
			}
			return time.Time{}, nil
		})
		q.Add("a")
		time.Sleep(30 * 24 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		want := fmt.Sprint([]time.Duration{0, 24 * time.Hour, 48 * time.Hour, 72 * time.Hour})
		if fmt.Sprint(at) != want {
			t.Errorf("handled at %v, want %v", at, want)
		}
	})
}

func TestAddEveryHandlesTheFirstAtOnceAndGathersTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		q := New[string](DefaultBackoff)
		var mu sync.Mutex
		var at []time.Duration
		run(t, q, 2, func(_ context.Context, key string) (time.Time, error) {
			if key != "a" {
				return time.Time{}, nil
			}
			mu.Lock()
			at = append(at, time.Since(start))
			mu.Unlock()
			time.Sleep(time.Millisecond)
			return time.Time{}, nil
		})
		add := func() { q.AddEvery("a", 100*time.Millisecond) }
		add() // at once
		synctest.Wait()
		add() // while it is handled
		time.Sleep(30 * time.Millisecond)
		add()
		time.Sleep(80 * time.Millisecond) // it was handled at 100
		for range 5 {
			add()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second) // it was handled at 200
		add()                   // at once
		synctest.Wait()
		want := fmt.Sprint([]time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 1160 * time.Millisecond})
		mu.Lock()
		if fmt.Sprint(at) != want {
			t.Errorf("handled at %v, want %v", at, want)
		}
		mu.Unlock()
		time.Sleep(time.Second)
		q.AddEvery("b", 100*time.Millisecond)
		synctest.Wait()
		if q.items["a"] != nil {
			t.Error("a key is kept that may be handled at once")
		}
		if _, asleep := q.Len(); asleep != 0 {
			t.Errorf("%d keys are asleep", asleep)
		}
	})
}

func TestAddAtGathers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		q := New[string](DefaultBackoff)
		var mu sync.Mutex
		var at []time.Duration
		run(t, q, 2, func(context.Context, string) (time.Time, error) {
			mu.Lock()
			at = append(at, time.Since(start))
			mu.Unlock()
			time.Sleep(5 * time.Second)
			return start.Add(time.Minute), nil
		})
		q.AddAt("a", start.Add(20*time.Second))
		q.AddAt("a", start.Add(10*time.Second))
		q.AddAt("a", start.Add(30*time.Second))
		time.Sleep(12 * time.Second)
		q.AddAt("a", start.Add(13*time.Second)) // while it is handled
		q.AddAt("a", start.Add(40*time.Second))
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		want := fmt.Sprint([]time.Duration{10 * time.Second, 15 * time.Second, 60 * time.Second, 65 * time.Second})
		if fmt.Sprint(at[:4]) != want {
			t.Errorf("handled at %v, want %v", at, want)
		}
	})
}

func TestAnAddReplacesTheWakeUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New[string](DefaultBackoff)
		var mu sync.Mutex
		runs := 0
		run(t, q, 1, func(context.Context, string) (time.Time, error) {
			mu.Lock()
			defer mu.Unlock()
			runs++
			if runs == 1 {
				return time.Now().Add(time.Hour), nil
			}
			return time.Time{}, nil
		})
		q.Add("a")
		time.Sleep(time.Minute)
		q.Add("a") // handled now; it asks for no wake-up any more
		time.Sleep(48 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if runs != 2 {
			t.Errorf("%d runs, want 2", runs)
		}
	})
}

func TestFailuresBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		q := New[string](Backoff{Min: time.Second, Max: 4 * time.Second})
		var mu sync.Mutex
		var at []time.Duration
		run(t, q, 1, func(context.Context, string) (time.Time, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
			if len(at) <= 5 {
				return time.Time{}, errors.New("no")
			}
			return time.Time{}, nil
		})
		q.Add("a")
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		s := time.Second
		want := fmt.Sprint([]time.Duration{0, s, 3 * s, 7 * s, 11 * s, 15 * s})
		if fmt.Sprint(at) != want {
			t.Errorf("handled at %v, want %v", at, want)
		}
	})
}

func TestBackoffNeverOverflows(t *testing.T) {
	t.Parallel()
	b := Backoff{Min: time.Second, Max: time.Minute}
	for n := 1; n < 200; n++ {
		if d := b.delay(n); d < b.Min || d > b.Max {
			t.Fatalf("delay(%d) = %v", n, d)
		}
	}
}

// Who stands aside keeps nobody from working; when too many want to, they wait for it in turn.
func TestAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New[int](DefaultBackoff)
		start := time.Now()
		var mu sync.Mutex
		done := map[int]time.Duration{}
		standing, most := 0, 0
		count := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			standing += by
			most = max(most, standing)
		}
		run(t, q, 2, func(ctx context.Context, key int) (time.Time, error) {
			if key > 0 {
				back, ok := Aside(ctx)
				if !ok {
					return time.Time{}, ErrCrowded
				}
				count(1)
				time.Sleep(10 * time.Second)
				count(-1)
				back()
			}
			mu.Lock()
			defer mu.Unlock()
			done[key] = time.Since(start)
			return time.Now().Add(10 * time.Second), nil // and again, for ever
		})
		const many = 3*mostAside + 7
		for key := range many {
			q.Add(key + 1)
		}
		q.Add(0)
		time.Sleep(time.Second)
		mu.Lock()
		if done[0] != 0 || len(done) != 1 {
			t.Errorf("after a second %d are done, the one that asks nobody at %s", len(done), done[0])
		}
		mu.Unlock()
		time.Sleep(41 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(done) != many+1 || most != mostAside {
			t.Errorf("after 42 s %d of %d are done; at most %d stood aside", len(done), many+1, most)
		}
	})
	if _, ok := Aside(t.Context()); !ok {
		t.Error("outside of a queue nobody is in the way")
	}
}
