package engine

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
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
