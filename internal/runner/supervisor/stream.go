package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/sampan-batch/sampan/internal/runner"
)

// A stream is a request with a connection of its own: a command that is executed
// in a container, a client that is attached to one, or a way to a port.
//
//	client → supervisor   the request; the descriptors of the client's pipes come with it
//	supervisor → client   verbBegun, if there is something for the client: the terminal, the
//	                      container's input, or the connected socket come with it
//	client → supervisor   verbInputEnd, if it is attached and has no more input
//	supervisor → client   verbOK or verbError, and the end
//
// What flows, flows by these descriptors and not through the connection. The client
// that hangs up, or dies, ends the stream: its command is killed.
const verbInputEnd verb = 16

// How many streams may be open at once, and how many of one container.
const (
	maxStreams      = 4096
	maxStreamsOfOne = 512
)

// quota counts the open streams.
type quota struct {
	mu    sync.Mutex
	total int
	of    map[string]int // by container
}

// take makes room for a stream until release is called.
func (q *quota) take(id string) (release func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total >= maxStreams || q.of[id] >= maxStreamsOfOne {
		return nil, fmt.Errorf("%w: %d, %d of them of this container", runner.ErrBusy, q.total, q.of[id])
	}
	q.total++
	if q.of == nil {
		q.of = make(map[string]int)
	}
	q.of[id]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.total--
		if q.of[id]--; q.of[id] == 0 {
			delete(q.of, id)
		}
	}, nil
}

// errHungUp: the client of a stream has gone.
var errHungUp = errors.New("supervisor: the client has hung up")

// stream is one of them.
type stream struct {
	s     *Supervisor
	conn  *net.UnixConn
	files []*os.File // that came with the request
	// inputEnd is closed when the client has no more input.
	inputEnd chan struct{}
}

// serveStream does what the first frame of a connection asks for.
func (s *Supervisor) serveStream(conn *net.UnixConn, f frame, files []*os.File) {
	st := &stream{s: s, conn: conn, files: files, inputEnd: make(chan struct{})}
	defer func() { closeFiles(st.files) }()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() { cancel(st.listen()) }()
	answer, err := st.handle(ctx, f)
	if err != nil {
		_ = sendWith(conn, verbError, toWire(err))
	} else {
		_ = sendWith(conn, verbOK, answer)
	}
}

// listen returns when the client has hung up.
func (st *stream) listen() error {
	inputEnd := sync.OnceFunc(func() { close(st.inputEnd) })
	for {
		f, files, err := receive(st.conn)
		if err != nil {
			return errHungUp
		}
		closeFiles(files)
		if f.verb == verbInputEnd {
			inputEnd()
		}
	}
}

func (st *stream) handle(ctx context.Context, f frame) (any, error) {
	switch f.verb {
	case verbRun:
		var req runRequest
		if err := json.Unmarshal(f.body, &req); err != nil {
			return nil, err
		}
		return st.run(ctx, &req)
	case verbAttach:
		var req attachRequest
		if err := json.Unmarshal(f.body, &req); err != nil {
			return nil, err
		}
		return nil, st.attach(ctx, &req)
	case verbNames:
		return nil, st.names()
	case verbHub:
		return nil, st.hub()
	default:
		var req dialRequest
		if err := json.Unmarshal(f.body, &req); err != nil {
			return nil, err
		}
		return nil, st.dial(ctx, &req)
	}
}

// pick returns the files that are the standard streams.
func (st *stream) pick(index [3]int) (std [3]*os.File, err error) {
	for i, n := range index {
		if n >= len(st.files) {
			return std, fmt.Errorf("supervisor: a request with %d descriptors asks for one more", len(st.files))
		}
		if n >= 0 {
			std[i] = st.files[n]
		}
	}
	return std, nil
}

// run executes a command.
func (st *stream) run(ctx context.Context, req *runRequest) (runner.ExitInfo, error) {
	std, err := st.pick(req.Files)
	if err != nil {
		return runner.ExitInfo{}, err
	}
	release, err := st.s.quota.take(req.ID)
	if err != nil {
		return runner.ExitInfo{}, err
	}
	defer release()
	child, err := st.s.begin(ctx, req.ID, runner.ExecSpec{Args: req.Args, TTY: req.TTY}, std)
	if err != nil {
		return runner.ExitInfo{}, err
	}
	closeFiles(st.files) // the command alone has them
	st.files = nil
	if tty := child.Terminal(); tty != nil {
		err := sendWith(st.conn, verbBegun, nil, tty)
		tty.Close() // the client alone has it
		if err != nil {
			ctx = hungUp()
		}
	}
	return await(ctx, req.ID, child)
}

// hungUp is the context of a client that has gone.
func hungUp() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errHungUp)
	return ctx
}

// dial connects to a port of a pod.
func (st *stream) dial(ctx context.Context, req *dialRequest) error {
	if !st.s.runs(req.Pod) {
		return fmt.Errorf("pod %s: no container runs: %w", req.Pod, runner.ErrNotFound)
	}
	conn, err := st.s.launcher.Dial(ctx, runner.Target{PodUID: req.Pod, Port: req.Port, Outside: req.Outside})
	if err != nil {
		return err
	}
	defer conn.Close()
	tcp, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return fmt.Errorf("supervisor: a connection of the type %T has no descriptor", conn)
	}
	file, err := tcp.File()
	if err != nil {
		return err
	}
	defer file.Close()
	return sendWith(st.conn, verbBegun, nil, file)
}

// names hands over the sockets at which names are asked for.
func (st *stream) names() error {
	udp, tcp, err := st.s.launcher.Names()
	if err != nil {
		return err
	}
	defer udp.Close()
	defer tcp.Close()
	return sendWith(st.conn, verbBegun, nil, udp, tcp)
}

// hub hands over what other nodes are connected by.
func (st *stream) hub() error {
	hub, err := st.s.launcher.Hub()
	if err != nil {
		return err
	}
	defer hub.Close()
	return sendWith(st.conn, verbBegun, nil, hub)
}

// runs tells whether a container of the pod runs.
func (s *Supervisor) runs(podUID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		if c.spec.Pod.UID == podUID && c.state().Phase == runner.Running {
			return true
		}
	}
	return false
}
