package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// connection is one connection's lifetime.
type connection struct {
	conn net.Conn
	out  frameWriter
	pid  int // the supervisor's
	// protocol is the version that both sides speak.
	protocol int
	// refused is why the supervisor cannot start any container, "" if it can.
	refused string
	// detach keeps the end of the link from closing the connection.
	detach func() bool

	mu    sync.Mutex
	next  uint64
	calls map[uint64]chan frame
	ended chan struct{} // closed when the connection is
}

// errOld: an engine has found the supervisor of a former version. Its
// containers go on. It starts no more: it has neither volumes nor what keeps a
// container in its place today. Once none of its containers runs it is replaced:
// see link.ask.
var errOld = errors.New("supervisor: the one that runs is of an older version, and keeps the pods that it has; " +
	"others start when those have ended, or after `sampan stop`")

var errLost = errors.New("supervisor: the connection was lost")

// call sends a request and decodes the answer into res, if that is not nil.
func (c *connection) call(ctx context.Context, v verb, req, res any) error {
	if c.protocol < 2 && (v == verbStart || v >= verbSetVolume && v <= verbPods) || c.protocol < 4 && (v == verbSetImage || v == verbRead) || c.protocol < 5 && (v == verbGive || v == verbDiscard) ||
		c.protocol < 6 && v == verbResize {
		return errOld
	}
	id, answer, err := c.begin()
	if err != nil {
		return err
	}
	if err := c.out.send(id, v, req); err != nil {
		c.end(id)
		return fmt.Errorf("%w: %w", errLost, err)
	}
	select {
	case f, ok := <-answer:
		switch {
		case !ok:
			return errLost
		case f.verb == verbError:
			return decodeError(f)
		case res == nil:
			return nil
		default:
			return json.Unmarshal(f.body, res)
		}
	case <-ctx.Done():
		c.end(id)
		if v == verbExec {
			_ = c.out.post(0, verbCancel, &cancelRequest{Request: id})
		}
		return context.Cause(ctx)
	}
}

func decodeError(f frame) error {
	var e wireError
	if err := json.Unmarshal(f.body, &e); err != nil {
		return err
	}
	return e.toError()
}

func (c *connection) begin() (uint64, chan frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		return 0, nil, errLost
	}
	id, answer := c.next, make(chan frame, 1)
	c.next++
	c.calls[id] = answer
	return id, answer, nil
}

func (c *connection) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

func (c *connection) answer(f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer := c.calls[f.id]; answer != nil {
		answer <- f
		delete(c.calls, f.id)
	}
}

func (c *connection) close() {
	c.detach()
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ended)
	for _, answer := range c.calls {
		close(answer)
	}
	c.calls = nil
}
