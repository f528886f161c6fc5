package supervisor

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"sync"

	"github.com/sampan-batch/sampan/internal/runner"
)

// session is one client's connection to the supervisor.
type session struct {
	s    *Supervisor
	conn net.Conn
	out  frameWriter

	mu    sync.Mutex
	execs map[uint64]context.CancelFunc // by request
}

// serve answers whoever has connected. The first frame says what the connection is
// for: a session, or one stream.
func (s *Supervisor) serve(conn *net.UnixConn) {
	defer conn.Close()
	f, files, err := receive(conn)
	if err != nil {
		return
	}
	switch f.verb {
	case verbRun, verbAttach, verbDial, verbNames, verbHub:
		s.serveStream(conn, f, files)
	default:
		closeFiles(files)
		s.serveSession(conn, f)
	}
}

// serveSession answers one client until it goes away. Commands that it is still
// executing in containers are killed then; nobody wants their results.
func (s *Supervisor) serveSession(conn net.Conn, first frame) {
	ss := &session{s: s, conn: conn, out: frameWriter{w: conn}, execs: make(map[uint64]context.CancelFunc)}
	ctx, cancel := context.WithCancel(context.Background())
	var requests sync.WaitGroup
	defer func() {
		s.mu.Lock()
		delete(s.sessions, ss)
		s.mu.Unlock()
		cancel()
		conn.Close()
		requests.Wait()
	}()
	r := newFrameReader(conn)
	for f, err := first, error(nil); err == nil; f, err = readFrame(r) {
		switch f.verb {
		case verbHello:
			ss.hello(f)
		case verbCancel:
			ss.cancel(f)
		case verbExec: // registered in order, so that a cancel finds it
			ctx, done := ss.cancellable(ctx, f.id)
			requests.Go(func() { defer done(); ss.answer(ctx, f) })
		default:
			requests.Go(func() { ss.answer(ctx, f) })
		}
	}
}

// hello answers with all that there is; from then on the session is told
// of every change.
func (ss *session) hello(f frame) {
	var req helloRequest
	if err := json.Unmarshal(f.body, &req); err != nil {
		_ = ss.out.send(f.id, verbError, toWire(err))
		return
	}
	s := ss.s
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := helloAnswer{
		Protocol: min(s.opts.speaks(), req.Protocol), PID: os.Getpid(), Class: s.opts.Class, Started: s.started,
		Containers: make([]runner.Status, 0, len(s.containers)), Refused: s.opts.NoNamespaces,
	}
	for _, c := range s.containers {
		if state := c.state(); state.Phase != runner.Created {
			answer.Containers = append(answer.Containers, state)
		}
	}
	if ss.out.post(f.id, verbOK, answer) == nil {
		s.sessions[ss] = true
	}
}

func (ss *session) cancel(f frame) {
	var req cancelRequest
	if json.Unmarshal(f.body, &req) != nil {
		return
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if cancel := ss.execs[req.Request]; cancel != nil {
		cancel()
	}
}

func (ss *session) answer(ctx context.Context, f frame) {
	body, err := ss.handle(ctx, f)
	if err != nil {
		_ = ss.out.send(f.id, verbError, toWire(err))
	} else {
		_ = ss.out.send(f.id, verbOK, body)
	}
	if f.verb == verbStop { // whatever went wrong: it takes no container any more
		ss.s.exit()
	}
}

// handle does what a request asks for.
func (ss *session) handle(ctx context.Context, f frame) (any, error) {
	s := ss.s
	decode := func(req any) error { return json.Unmarshal(f.body, req) }
	switch f.verb {
	case verbStart:
		return s.start(f.body, ss)
	case verbSignal:
		var req signalRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return nil, s.signal(req.ID, req.Signal)
	case verbExec:
		var req execRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return runner.ExecOutput(ctx, s, req.ID, req.Exec.Args, req.Exec.Timeout)
	case verbRemove:
		var req idRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return nil, s.remove(req.ID, ss)
	case verbRemovePod:
		var req idRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return nil, s.removePod(req.ID)
	case verbSetVolume, verbSetImage, verbGive, verbRead, verbDiscard:
		return s.handleVolume(f)
	case verbResize:
		return s.resize(f.body)
	case verbUsage:
		var req idRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return s.usage(ctx, req.ID)
	case verbPods:
		return s.podsDue(), nil
	case verbAlive:
		return nil, s.alive()
	case verbStop:
		return nil, s.stop()
	default:
		return s.handleNetwork(f)
	}
}

// cancellable returns a context that a cancelRequest for the request ends.
func (ss *session) cancellable(ctx context.Context, request uint64) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	ss.mu.Lock()
	ss.execs[request] = cancel
	ss.mu.Unlock()
	return ctx, func() {
		cancel()
		ss.mu.Lock()
		delete(ss.execs, request)
		ss.mu.Unlock()
	}
}

// push tells every client but one, who knows already. It waits for none.
func (s *Supervisor) push(v verb, body any, except *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushLocked(v, body, except)
}

func (s *Supervisor) pushLocked(v verb, body any, except *session) {
	var text []byte
	for ss := range s.sessions {
		if ss == except {
			continue
		}
		if text == nil {
			var err error
			if text, err = json.Marshal(body); err != nil {
				s.log.Error("telling the clients", "err", err)
				return
			}
		}
		if ss.out.post(0, v, text) != nil {
			ss.conn.Close()
			delete(s.sessions, ss)
		}
	}
}
