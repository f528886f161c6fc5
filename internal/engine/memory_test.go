package engine

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestHideMemory(t *testing.T) {
	dumpable := func() int {
		got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := dumpable()
	defer unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(before), 0, 0, 0)
	HideMemory(slog.New(slog.DiscardHandler))
	want := before
	if os.Geteuid() == 0 {
		want = 0
	}
	if got := dumpable(); got != want {
		t.Errorf("got %d, want %d (it was %d)", got, want, before)
	}
}

// TestGiveBack: memory goes back once after a burst, not while it lasts, and not
// for the little that an engine at rest allocates.
func TestGiveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mb = 1 << 20
		ctx, stop := context.WithCancel(t.Context())
		start := time.Now()
		var total atomic.Uint64
		var freed []time.Duration
		g := givesBack{
			allocated: total.Load,
			free:      func() { freed = append(freed, time.Since(start)) },
		}
		done := make(chan struct{})
		go func() { defer close(done); _ = g.run(ctx) }()
		time.Sleep(time.Second) // between the ticks
		for _, perTick := range []uint64{300, 300, 1, 1, 300, 1, 1, 1, 1, 19, 19, 19, 19, 1, 1} {
			total.Add(perTick * mb)
			time.Sleep(quietTick)
		}
		stop()
		<-done
		want := []time.Duration{8 * quietTick, 13 * quietTick}
		if !slices.Equal(freed, want) {
			t.Errorf("freed at %v, want %v", freed, want)
		}
	})
}

// TestAllocated: what is measured grows by what is allocated.
func TestAllocated(t *testing.T) {
	before := allocated()
	data := make([]byte, 10<<20)
	if grown := allocated() - before; grown < uint64(len(data)) {
		t.Errorf("grown by %d bytes", grown)
	}
}
