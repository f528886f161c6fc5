package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
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

// catchSignals is for a command with that context.
func catchSignals(ctx context.Context) *signals {
	end, doEnd := context.WithCancel(context.Background())
	kill, doKill := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, append(stopSignals(), unix.SIGPIPE, unix.SIGQUIT)...)
	if handOver(ctx) {
		doEnd()
	}
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

// stopSignals are those that ask to end: a terminal that is closed does, too, unless nohup
// has asked for the contrary.
func stopSignals() []os.Signal {
	signals := []os.Signal{unix.SIGINT, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) {
		signals = append(signals, unix.SIGHUP)
	}
	return signals
}

// attention heeds signals for commands that have no way of their own to end: their context ends, and
// who does not return then, because he waits for what does not heed it, is left behind after
// a while, or when he is asked again.
//
//	heeding ──signal──▶ asked ──signal, or endPatience──▶ exit 130
//	   └────handOver────────┴────▶ over
type attention struct {
	ch     chan os.Signal
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	asked bool
	over  chan struct{} // closed when somebody else heeds them, or nobody need
}

// endPatience is how long a command may take to end when it is asked to: to remove what nobody
// else would.
const endPatience = 3 * time.Second

type attentionKey struct{}

// attend returns the context of a command.
func attend() (context.Context, *attention) {
	ctx, cancel := context.WithCancelCause(context.Background())
	a := &attention{ch: make(chan os.Signal, 2), cancel: cancel, over: make(chan struct{})}
	signal.Notify(a.ch, stopSignals()...)
	go a.heed()
	return context.WithValue(ctx, attentionKey{}, a), a
}

func (a *attention) heed() {
	select {
	case <-a.ch:
	case <-a.over:
		return
	}
	a.mu.Lock()
	a.asked = true
	a.mu.Unlock()
	a.cancel(errInterrupted)
	select {
	case <-a.ch:
	case <-time.After(endPatience):
	case <-a.over:
		return
	}
	os.Exit(exitInterrupted)
}

// leave has nobody heed the signals any more, and tells whether the command was asked to end.
func (a *attention) leave() (asked bool) {
	signal.Stop(a.ch)
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.over:
	default:
		close(a.over)
	}
	select {
	case <-a.ch: // not heeded yet
		a.asked = true
	default:
	}
	return a.asked
}

// handOver leaves the signals to a command that has begun to catch them itself, and tells
// whether it was asked to end before.
func handOver(ctx context.Context) (asked bool) {
	if a, ok := ctx.Value(attentionKey{}).(*attention); ok {
		return a.leave()
	}
	return false
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
