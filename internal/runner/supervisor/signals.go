package supervisor

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// askedGrace is how long containers may take to end when the supervisor is asked
// to by SIGTERM: as long as `sampan stop` gives them.
const askedGrace = 30 * time.Second

// signals are what the process is sent. They are caught, not ignored: what is
// ignored stays so in the containers. Interrupts and hang-ups are the engine's to
// handle.
//
//	SIGTERM   every container is asked to end, then the supervisor ends, as after
//	          `sampan stop`; a second one kills them at once
//	SIGQUIT   what the goroutines do goes to the log; the runtime would exit then, and
//	          take every container along
//	others    nothing
func signals() chan os.Signal {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGQUIT)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	return ch
}

// heed does what signals ask for until ctx ends.
func (s *Supervisor) heed(ctx context.Context, signals <-chan os.Signal) {
	asked := false
	for {
		var sig os.Signal
		select {
		case sig = <-signals:
		case <-ctx.Done():
			return
		}
		switch {
		case sig == syscall.SIGQUIT:
			stacks := make([]byte, 1<<20)
			_, _ = os.Stderr.Write(stacks[:runtime.Stack(stacks, true)])
		case asked:
			s.exit()
		default:
			asked = true
			s.log.Warn("asked to end by SIGTERM; the containers end first", "grace", askedGrace)
			go func() {
				s.leave(ctx, "it was asked to end by SIGTERM")
				s.exit()
			}()
		}
	}
}

// leave asks every container to end and returns when they have, or their grace is
// over, or ctx. No new one is started; the clients and the containers' records say
// why.
func (s *Supervisor) leave(ctx context.Context, why string) {
	s.mu.Lock()
	s.stopping, s.leaving = true, why
	var all []*container
	for _, c := range s.containers {
		all = append(all, c)
	}
	s.mu.Unlock()
	s.giveUp()
	s.push(verbLeaving, &leavingNotice{Why: why}, nil)
	ctx, cancel := context.WithTimeout(ctx, askedGrace)
	defer cancel()
	for _, c := range all {
		_ = s.signal(c.spec.ID, int(syscall.SIGTERM)) // it may have ended
	}
	for _, c := range all {
		if c.state().Phase == runner.Created {
			continue // its start is given up
		}
		select {
		case <-c.ended:
		case <-ctx.Done():
			return
		}
	}
}

// lastWord is what a container's record says besides how it ended.
func (s *Supervisor) lastWord() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == "" {
		return ""
	}
	return "The container was ended with its supervisor: " + s.leaving
}

// alive answers whether containers can be started.
func (s *Supervisor) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return errStopping
	}
	return nil
}
