package supervisor

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// attach connects a client with the streams of a container until either has ended.
func (st *stream) attach(ctx context.Context, req *attachRequest) error {
	c, err := st.s.find(req.ID)
	if err != nil {
		return err
	}
	if _, err := st.s.running(req.ID); err != nil {
		return err
	}
	release, err := st.s.quota.take(req.ID)
	if err != nil {
		return err
	}
	defer release()
	std, err := st.pick(req.Files)
	if err != nil {
		return err
	}
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	l, err := streams.audience.join(std[1], std[2])
	if err != nil {
		return errorf(req.ID, err)
	}
	defer streams.audience.leave(l)
	in := &streams.input
	if c.spec.TTY {
		in = &input{file: streams.pipes[0], tty: true}
	}
	if err := st.sendInput(in, req); err != nil {
		return err
	}
	return st.follow(ctx, l, in, req.Stdin)
}

// follow returns when the client, its input or the container has ended.
func (st *stream) follow(ctx context.Context, l *listener, in *input, fed bool) error {
	inputEnd := st.inputEnd
	for {
		select {
		case <-l.done:
			return l.err
		case <-inputEnd:
			if !in.over() {
				return nil
			}
			inputEnd = nil
		case <-ctx.Done():
			if fed {
				in.over()
			}
			return context.Cause(ctx)
		}
	}
}

// sendInput sends the client the container's input or, with a terminal, that.
func (st *stream) sendInput(in *input, req *attachRequest) error {
	if !req.Stdin && !(in.tty && req.Resize) {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.file == nil {
		return nil
	}
	return sendWith(st.conn, verbBegun, &attached{TTY: in.tty}, in.file)
}

// input is the writing end of a container's standard input, which is held open for
// whoever is attached.
type input struct {
	once bool // it ends with the first who had some
	tty  bool

	mu   sync.Mutex
	file *os.File // nil: there is none, or it has ended
}

// end ends the input.
func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	closeFile(in.file)
	in.file = nil
}

// over takes note that somebody who was attached has no more input. It ends that of
// a container that is to have it once, and tells whether it does.
func (in *input) over() bool {
	if in.once {
		in.end()
	}
	return in.once
}

// How much may wait for an attached client, and for all those of this supervisor
// together. Who lets more than that wait is cut: the container and its log go on
// as if nobody were there.
const (
	maxWaiting    = 4 << 20
	maxWaitingAll = 64 << 20
)

// audience are the clients that are attached to a container's output.
type audience struct {
	waiting *atomic.Int64 // what waits for all clients of the supervisor
	some    atomic.Bool   // there are any

	mu        sync.Mutex
	listeners map[*listener]bool
	over      bool
}

// listener is one of them.
type listener struct {
	outlets [2]*outlet    // stdout, stderr; nil: not wanted
	over    chan struct{} // closed when there is nothing more to come
	ending  sync.Once
	done    chan struct{} // closed when all has been handed over, or it was cut
	err     error         // why it was cut; set before done is closed
}

// join adds a client that has these descriptors for output.
func (a *audience) join(stdout, stderr *os.File) (*listener, error) {
	l := &listener{over: make(chan struct{}), done: make(chan struct{})}
	for i, f := range []*os.File{stdout, stderr} {
		if f == nil {
			continue
		}
		own, err := inPoller(f)
		if err != nil {
			l.close()
			return nil, err
		}
		l.outlets[i] = &outlet{file: own, waiting: a.waiting, wake: make(chan struct{}, 1)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		l.close()
		return nil, runner.ErrEnded
	}
	if a.listeners == nil {
		a.listeners = make(map[*listener]bool)
	}
	a.listeners[l] = true
	a.some.Store(true)
	go l.run()
	return l, nil
}

// inPoller returns a copy of a descriptor that is written to without a thread.
func inPoller(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	own := -1
	var dup error
	err = raw.Control(func(fd uintptr) {
		if own, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); dup == nil {
			dup = unix.SetNonblock(own, true)
		}
	})
	if err = errors.Join(err, os.NewSyscallError("fcntl", dup)); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(own), "output"), nil
}

// leave removes a client, and returns when nothing is written to it any more.
func (a *audience) leave(l *listener) {
	a.mu.Lock()
	delete(a.listeners, l)
	a.some.Store(len(a.listeners) > 0)
	a.mu.Unlock()
	l.stop()
	<-l.done
}

// tell hands over what was read of a stream, and waits for nobody.
func (a *audience) tell(which int, p []byte) {
	if !a.some.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for l := range a.listeners {
		if o := l.outlets[which]; o != nil {
			o.put(p)
		}
	}
}

// end lets those who are there have what still waits for them, and nobody join.
func (a *audience) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	for l := range a.listeners {
		l.end()
	}
}

// run returns when both outlets have; where one is cut, so is the other.
func (l *listener) run() {
	defer close(l.done)
	var writing sync.WaitGroup
	var errs [2]error
	for i, o := range l.outlets {
		if o == nil {
			writing.Go(func() { <-l.over })
			continue
		}
		writing.Go(func() {
			if errs[i] = o.run(); errs[i] != nil {
				l.stop()
			}
		})
	}
	writing.Wait()
	l.err = errors.Join(errs[:]...)
}

func (l *listener) end() {
	l.ending.Do(func() { close(l.over) })
	for _, o := range l.outlets {
		if o != nil {
			o.end()
		}
	}
}

func (l *listener) stop() {
	l.ending.Do(func() { close(l.over) })
	for _, o := range l.outlets {
		if o != nil {
			o.cut(nil)
		}
	}
}

// close gives up a listener that never ran.
func (l *listener) close() {
	for _, o := range l.outlets {
		if o != nil {
			o.file.Close()
		}
	}
}

// outlet writes one stream to one client.
type outlet struct {
	file    *os.File
	waiting *atomic.Int64
	wake    chan struct{} // has an element if there may be something to do

	mu    sync.Mutex
	queue []byte
	ended bool  // nothing is added any more
	why   error // why it was cut
	stuck bool  // it was cut
}

// put adds to what the client is to get. It never waits for him.
func (o *outlet) put(p []byte) {
	o.mu.Lock()
	full := len(o.queue)+len(p) > maxWaiting
	if !full && !o.ended {
		full = o.waiting.Add(int64(len(p))) > maxWaitingAll
		o.queue = append(o.queue, p...)
	}
	o.mu.Unlock()
	if full {
		o.cut(runner.ErrSlow)
		return
	}
	o.awake()
}

func (o *outlet) awake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// end lets the client have what is there, and no more.
func (o *outlet) end() {
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	o.awake()
}

// cut ends the writing at once.
func (o *outlet) cut(why error) {
	o.mu.Lock()
	if !o.stuck {
		o.stuck, o.ended, o.why = true, true, why
	}
	o.mu.Unlock()
	_ = o.file.SetWriteDeadline(time.Unix(1, 0))
	o.awake()
}

// run writes until the end.
func (o *outlet) run() error {
	defer o.file.Close()
	for {
		o.mu.Lock()
		p, ended, stuck, why := o.queue, o.ended, o.stuck, o.why
		o.queue = nil
		o.mu.Unlock()
		if stuck || len(p) == 0 && ended {
			o.waiting.Add(-int64(len(p)))
			return why
		}
		if len(p) == 0 {
			<-o.wake
			continue
		}
		_, err := o.file.Write(p)
		o.waiting.Add(-int64(len(p)))
		if err != nil {
			o.cut(err) // which says nothing if it was cut before
		}
	}
}
