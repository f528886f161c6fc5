package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Causes for which a command ends before what it follows has.
var (
	errInterrupted = errors.New("interrupted")
	errTimedOut    = errors.New("timed out")
)

// exitOf is the exit status of such a cause.
func exitOf(cause error) int {
	if errors.Is(cause, errTimedOut) {
		return exitTimedOut
	}
	return exitInterrupted
}

// signals are what Ctrl-C asks for: to end, and, the second time, to kill. SIGTERM asks
// the same, and so does a terminal that is closed, but once only: SIGHUP comes from the
// terminal, and again from the shell. A reader of the output that goes away, as head
// does, asks to end, too. Ctrl-\ kills at once; the Go runtime would exit and leave the
// engine's directory behind.
type signals struct {
	end, kill context.Context
	release   func()
}

func catchSignals() *signals {
	end, doEnd := context.WithCancel(context.Background())
	kill, doKill := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGQUIT)
	go func() {
		for sig := range ch {
			again := end.Err() != nil && (sig == unix.SIGINT || sig == unix.SIGTERM)
			if again || sig == unix.SIGQUIT {
				doKill()
			}
			doEnd()
		}
	}()
	return &signals{end: end, kill: kill, release: func() {
		signal.Stop(ch)
		close(ch)
		doEnd()
		doKill()
	}}
}

// limit returns a context that ends with its cause when somebody asks to end, or when the
// time is over, unless that is 0.
func (s *signals) limit(parent context.Context, timeout time.Duration) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(s.end, func() { cancel(errInterrupted) })
	timer := &time.Timer{}
	if timeout > 0 {
		timer = time.AfterFunc(timeout, func() { cancel(errTimedOut) })
	}
	return ctx, func() {
		stop()
		if timeout > 0 {
			timer.Stop()
		}
		cancel(nil)
	}
}
