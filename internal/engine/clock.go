package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watchClock calls changed whenever the wall clock was set, or the machine has
// slept, until ctx ends. Timers of the Go runtime follow the monotonic clock
// and notice neither. See timerfd_create(2), TFD_TIMER_CANCEL_ON_SET.
func watchClock(ctx context.Context, log *slog.Logger, changed func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		log.Warn("changes of the clock are noticed late", "err", err)
		return nil
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer timer.Close()
	defer context.AfterFunc(ctx, func() { timer.SetReadDeadline(time.Now()) })()
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt32 * 4}}
	const flags = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	var ticks [8]byte
	for ctx.Err() == nil {
		if err := unix.TimerfdSettime(fd, flags, &never, nil); err != nil && !errors.Is(err, unix.ECANCELED) {
			log.Warn("changes of the clock are noticed late", "err", err)
			return nil
		}
		_, err := timer.Read(ticks[:])
		switch {
		case errors.Is(err, unix.ECANCELED):
			changed()
		case err != nil && ctx.Err() == nil:
			log.Warn("changes of the clock are noticed late", "err", err)
			return nil
		}
	}
	return nil
}

const (
	// clockTolerance is by how much the clock may be set without a word: a time
	// server's corrections are smaller.
	clockTolerance = time.Minute
	// clockDoubt is how long a clock that was set by more is said to be.
	clockDoubt = 5 * time.Minute
)

// clockCheck notices that the wall clock was set: it is compared with the one that
// nobody sets and that goes on while the machine sleeps (CLOCK_BOOTTIME), and, at
// the beginning, with the last time that the engine before has written down. Which
// of the two times was right nobody here knows; but CronJobs and deadlines go by
// it, so that it is said for a while.
type clockCheck struct {
	read func() (wall time.Time, steady time.Duration)

	mu     sync.Mutex
	offset time.Duration // of the wall clock (since 1970), when last looked at
	set    time.Duration // when it was found to be set, by the steady clock
	by     time.Duration // how far; 0: never
}

// newClockCheck begins at a time that should not be before last, a zero one being
// unknown.
func newClockCheck(read func() (time.Time, time.Duration), last time.Time) *clockCheck {
	c := &clockCheck{read: read}
	wall, steady := read()
	c.offset = sinceEpoch(wall) - steady
	if back := last.Sub(wall); !last.IsZero() && back > clockTolerance {
		c.set, c.by = steady, -back
	}
	return c
}

// look compares the clocks. What does not jump may drift: it is told from a jump by
// being looked at often.
func (c *clockCheck) look() {
	wall, steady := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	offset := sinceEpoch(wall) - steady
	if by := offset - c.offset; by.Abs() > clockTolerance {
		c.set, c.by = steady, by
	}
	c.offset = offset
}

// check returns that the clock was set, nil when that is long ago.
func (c *clockCheck) check() error {
	c.look()
	_, steady := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	ago := steady - c.set
	switch {
	case c.by == 0 || ago > clockDoubt:
		return nil
	case c.by > 0:
		return fmt.Errorf("the clock was set forward by %s, %s ago; CronJobs and deadlines go by it", c.by.Round(time.Second), ago.Round(time.Second))
	}
	return fmt.Errorf("the clock was set back by %s, %s ago; CronJobs and deadlines go by it", (-c.by).Round(time.Second), ago.Round(time.Second))
}

func sinceEpoch(t time.Time) time.Duration { return time.Duration(t.UnixNano()) }

// readClocks reads the wall clock and the steady one.
func readClocks() (wall time.Time, steady time.Duration) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails for no clock that there is
	return time.Now().Round(0), time.Duration(ts.Nano())
}
