package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// link is a Client's connection to one supervisor, and a mirror of what that
// one has. The supervisor sends all that it has at first, then every change; so
// List and Wait cost no message.
type link struct {
	opts   Options
	client ClientOptions
	losses *losses
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	mu       sync.Mutex
	conn     *connection   // nil while there is none
	changed  chan struct{} // closed and replaced when conn or failure changes
	failure  error         // why there is none
	stopping bool          // stop was called: it is not started again
	leaving  string        // why the supervisor is about to end, as it says
	started  bool          // the supervisor, by this link

	containers map[string]*mirrored
}

type mirrored struct {
	status runner.Status
	ended  chan struct{} // closed when it has ended, or is gone
	gone   bool
}

func newLink(opts Options, client ClientOptions, losses *losses) *link {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{
		opts: opts, client: client, losses: losses, ctx: ctx, cancel: cancel,
		done: make(chan struct{}), changed: make(chan struct{}),
		containers: make(map[string]*mirrored),
	}
	go l.run()
	return l
}

func (l *link) close() {
	l.cancel()
	<-l.done
}

// How long to wait before trying again to connect, and how often a supervisor
// may be found that does not answer yet before that is a failure.
const (
	minPause = 5 * time.Millisecond
	maxPause = 2 * time.Second
	maxHeld  = 15
)

// run keeps the link connected until it is closed. It starts a supervisor when
// there is none: at first, and when one has died, so that what it lost is known.
func (l *link) run() {
	defer close(l.done)
	held := 0
	pause := minPause
	for l.ctx.Err() == nil {
		conn, r, err := l.connect()
		if err != nil {
			if held++; !errors.Is(err, errHeld) || held > maxHeld {
				l.set(nil, err)
				l.client.Log.Error("no supervisor", "class", l.opts.Class, "err", err)
			}
			select {
			case <-l.ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, maxPause)
			continue
		}
		held, pause = 0, minPause
		l.read(conn, r)
		l.set(nil, nil)
		conn.close()
		if l.isStopping() {
			break
		}
	}
	l.set(nil, errClosed)
}

// connect dials, starting a supervisor if need be, and says hello.
func (l *link) connect() (*connection, *bufio.Reader, error) {
	raw, err := dial(l.opts.home())
	if err != nil {
		if l.client.Running {
			return nil, nil, err
		}
		spawnErr := l.client.Neighbours.spawnBeside(l.opts, l.client.Command, l.client.Log)
		if spawnErr == nil {
			l.setStarted()
		}
		if spawnErr != nil && !errors.Is(spawnErr, errHeld) {
			return nil, nil, spawnErr
		}
		if raw, err = dial(l.opts.home()); err != nil && spawnErr != nil {
			return nil, nil, spawnErr
		} else if err != nil {
			return nil, nil, fmt.Errorf("%w (the supervisor's log is %s)", err, filepath.Join(l.opts.home(), "log"))
		}
	}
	c := &connection{conn: raw, out: frameWriter{w: raw}, calls: make(map[uint64]chan frame), next: 1, ended: make(chan struct{})}
	c.detach = context.AfterFunc(l.ctx, func() { raw.Close() })
	r := newFrameReader(raw)
	if err := l.hello(c, r); err != nil {
		c.close()
		return nil, nil, err
	}
	return c, r, nil
}

// hello learns all that the supervisor has. Containers that it does not have any
// more are gone.
func (l *link) hello(c *connection, r *bufio.Reader) error {
	err := c.out.send(0, verbHello, &helloRequest{Protocol: protocol})
	if err != nil {
		return fmt.Errorf("%w, and hangs up: %w", errHeld, err)
	}
	f, err := readFrame(r)
	if err != nil { // it is about to end
		return fmt.Errorf("%w, and hangs up: %w", errHeld, err)
	}
	if f.verb != verbOK {
		return decodeError(f)
	}
	var answer helloAnswer
	if err := json.Unmarshal(f.body, &answer); err != nil {
		return err
	}
	if answer.Protocol < 1 {
		return fmt.Errorf("supervisor: it speaks the protocol %d", answer.Protocol)
	}
	known := make(map[string]bool, len(answer.Containers))
	for _, status := range answer.Containers {
		known[status.ID] = true
		l.learn(status)
	}
	for _, status := range l.list(nil) {
		if !known[status.ID] {
			l.forget(status.ID)
		}
	}
	c.pid, c.protocol, c.refused = answer.PID, answer.Protocol, answer.Refused
	l.set(c, nil)
	return nil
}

// read handles what the supervisor sends until the connection ends.
func (l *link) read(c *connection, r *bufio.Reader) {
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		switch f.verb {
		case verbOK, verbError:
			c.answer(f)
		case verbState:
			var status runner.Status
			if json.Unmarshal(f.body, &status) == nil {
				l.learn(status)
			}
		case verbLeaving:
			var notice leavingNotice
			if json.Unmarshal(f.body, &notice) == nil {
				l.left(notice.Why)
			}
		case verbGone:
			var gone idRequest
			if json.Unmarshal(f.body, &gone) == nil {
				l.forget(gone.ID)
			}
		}
	}
}

func (l *link) set(c *connection, failure error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.failure, l.leaving = c, failure, ""
	close(l.changed)
	l.changed = make(chan struct{})
}

// ready returns when the link is connected, or could not be.
func (l *link) ready(ctx context.Context) error {
	_, err := l.connected(ctx)
	return err
}

func (l *link) connected(ctx context.Context) (*connection, error) {
	for {
		l.mu.Lock()
		conn, failure, changed := l.conn, l.failure, l.changed
		l.mu.Unlock()
		if conn != nil || failure != nil {
			return conn, failure
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

// after returns when a connection that is being lost has been, and another one
// made.
func (l *link) after(ctx context.Context, conn *connection) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-conn.ended:
		return l.ready(ctx)
	}
}

func (l *link) setStarted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = true
}

func (l *link) hasStarted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

// idle tells whether the supervisor was started by this link, for nothing so far.
func (l *link) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started && len(l.containers) == 0
}

// pid is the supervisor's process id, or 0 when there is none.
func (l *link) pid() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return 0
	}
	return l.conn.pid
}

// call is connection.call on the connection that there is.
func (l *link) call(ctx context.Context, v verb, req, res any) error {
	c, err := l.connected(ctx)
	if err != nil {
		return err
	}
	return c.call(ctx, v, req, res)
}

// ask is connection.call for what begins something new. A supervisor of a former
// version that keeps nothing that runs is ended; the error is then errStopping, and
// the link starts another.
func (l *link) ask(ctx context.Context, conn *connection, v verb, req, res any) error {
	err := conn.call(ctx, v, req, res)
	if !errors.Is(err, errOld) || l.running() {
		return err
	}
	if err := conn.call(ctx, verbStop, nil, nil); err != nil && !errors.Is(err, errLost) {
		return err
	}
	return errStopping
}

// stop tells the supervisor to end everything and waits until it has gone, which
// it does even if it says that something went wrong.
func (l *link) stop(ctx context.Context) error {
	l.mu.Lock()
	l.stopping = true
	l.mu.Unlock()
	conn, err := l.connected(ctx)
	if err != nil {
		return err
	}
	said := conn.call(ctx, verbStop, nil, nil)
	if errors.Is(said, errLost) {
		said = nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.done:
	}
	return errors.Join(said, awaitUnlocked(l.opts.home()))
}
