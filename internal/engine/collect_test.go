package engine

import (
	"runtime"
	"testing"
	"time"
)

func TestPercentAfter(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, test := range []struct {
		live, allocated uint64
		since           time.Duration
		want            int
	}{
		{20 * mb, 20 * mb, 100 * time.Millisecond, 300}, // busy, and little
		{20 * mb, 60 * mb, 300 * time.Millisecond, 300}, // with the room that it was given
		{20 * mb, mb, 100 * time.Millisecond, 100},      // somebody has asked for it
		{20 * mb, 20 * mb, time.Second, 100},            // idle
		{20 * mb, 20 * mb, 2 * time.Minute, 100},
		{60 * mb, 60 * mb, 100 * time.Millisecond, 100},
		{64 * mb, 64 * mb, 100 * time.Millisecond, 100},
		{900 * mb, 900 * mb, 100 * time.Millisecond, 100}, // overload
		{0, 4 * mb, 0, 1000},
	} {
		got := percentAfter(test.live, test.allocated, test.since)
		if got != test.want {
			t.Errorf("%d MB, %v after the one before: %d %%, want %d %%", test.live/mb, test.since, got, test.want)
		}
		if room := test.live * uint64(got) / 100; room > max(test.live, garbageRoom) {
			t.Errorf("%d MB have room for %d MB of garbage", test.live/mb, room/mb)
		}
	}
}

// TestCollecting: it is asked after each collection, and tells the runtime what is new only.
func TestCollecting(t *testing.T) {
	asked, told := make(chan struct{}), make(chan int, 10)
	defer close(asked) // later collections of this process do not wait for anybody
	var total uint64
	c := &collecting{
		percent: usualPercent, last: time.Now().Add(time.Hour),
		live:      func() uint64 { <-asked; return 16 << 20 },
		allocated: func() uint64 { total += 16 << 20; return total },
		set: func(percent int) {
			select {
			case told <- percent:
			default:
			}
		},
	}
	c.arm()
	for range 3 {
		done := make(chan struct{})
		go func() { defer close(done); asked <- struct{}{} }()
		for waiting := true; waiting; {
			runtime.GC()
			select {
			case <-done:
				waiting = false
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	select {
	case got := <-told:
		if got != 400 {
			t.Errorf("told %d %%, want 400 %%", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}
	if len(told) > 0 {
		t.Errorf("told again: %d %%", <-told)
	}
}
