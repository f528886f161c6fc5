package supervisor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// lossPause is how long a loss of output is gathered before the clients are told
// of it: on a full disk every write fails.
const lossPause = time.Second

// notWritten records that a container's log could not be written or rotated.
func (s *Supervisor) notWritten(c *container, err error) {
	var lost *crilog.LostError
	if !errors.As(err, &lost) {
		c.mu.Lock()
		said := c.saidRotation
		c.saidRotation = true
		c.mu.Unlock()
		if !said {
			s.log.Error("a container's log is not rotated", "container", c.spec.ID, "err", err)
		}
		return
	}
	c.mu.Lock()
	loss := &c.status.OutputLost
	first := loss.Bytes == 0
	loss.Bytes += lost.Bytes
	loss.Message, loss.At = lost.Err.Error(), time.Now()
	gathering := c.gathering
	c.gathering = true
	c.mu.Unlock()
	if first {
		s.log.Error("a container's output is lost", "container", c.spec.ID, "err", err)
	}
	if !gathering {
		time.AfterFunc(lossPause, func() { s.tellLoss(c) })
	}
}

// tellLoss tells the clients what a running container has lost. Of one that has
// ended they learn it with its end.
func (s *Supervisor) tellLoss(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.mu.Lock()
	c.gathering = false
	status := c.status
	c.mu.Unlock()
	if s.containers[c.spec.ID] == c && status.Phase == runner.Running {
		s.pushLocked(verbState, &status, nil)
	}
}

// losses are the containers that have lost output since the last time that
// somebody asked.
type losses struct {
	mu   sync.Mutex
	last map[string]runner.Status
	some chan struct{} // has an element if there are any
}

func newLosses() *losses {
	return &losses{last: make(map[string]runner.Status), some: make(chan struct{}, 1)}
}

func (l *losses) add(status runner.Status) {
	l.mu.Lock()
	l.last[status.ID] = status
	l.mu.Unlock()
	select {
	case l.some <- struct{}{}:
	default:
	}
}

func (l *losses) take() map[string]runner.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.last
	l.last = make(map[string]runner.Status)
	return last
}

// Losses implements runner.Runner.
func (c *Client) Losses(ctx context.Context, tell func(runner.Status)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.losses.some:
		}
		for _, status := range c.losses.take() {
			tell(status)
		}
	}
}
