package engine

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
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

// TestGiveBack: memory goes back once after the start and after a burst, not while it
// lasts, and not for the little that an engine at rest allocates.
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
		for _, perTick := range []uint64{20, 1, 1, 1, 1, 300, 300, 1, 1, 300, 1, 1, 1, 1, 19, 19, 19, 19, 1, 1} {
			total.Add(perTick * mb)
			time.Sleep(quietTick)
		}
		stop()
		<-done
		want := []time.Duration{4 * quietTick, 13 * quietTick, 18 * quietTick}
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

// TestForgetProgram: most of the program's file is mapped no more, and what comes next finds
// the pages that it needs.
func TestForgetProgram(t *testing.T) {
	program := func() int64 {
		var total int64
		data, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		exe, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		ours := false
		for line := range strings.Lines(string(data)) {
			if name, rest, ok := strings.Cut(line, ":"); ok && name == "Rss" && ours {
				kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				total += kb
			} else if strings.Contains(line, "-") && strings.Contains(line, ":") && strings.Contains(line, " 00") {
				ours = strings.HasSuffix(strings.TrimSpace(line), exe)
			}
		}
		return total
	}
	before := program()
	forgetProgram()
	if after := program(); after > before/2 {
		t.Errorf("%d kB of the program are mapped, before %d", after, before)
	}
}
