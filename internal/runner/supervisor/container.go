package supervisor

import (
	"context"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// container is one container of this supervisor.
//
//	created ──▶ running ──▶ exited ──▶ (removed)
//	   └──▶ (removed: it could not be started)
type container struct {
	spec *runner.Spec
	proc runner.Process // nil: it was a former supervisor's, or is being started

	ended chan struct{} // closed when status is final

	mu           sync.Mutex
	streams      *streams // nil: as proc
	status       runner.Status
	gathering    bool // a loss of output is about to be told
	saidRotation bool // that the log is not rotated

	releasing sync.Mutex // held while the Launcher releases it; the last of all
	released  bool
}

func newContainer(spec *runner.Spec) *container {
	return &container{
		spec:  spec,
		ended: make(chan struct{}),
		status: runner.Status{
			ID: spec.ID, Pod: spec.Pod, Container: spec.Container, Attempt: spec.Attempt,
			Class: spec.Class, Phase: runner.Created,
		},
	}
}

func (c *container) state() runner.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// release gives back what an ended container holds, once.
func (c *container) release() error {
	c.releasing.Lock()
	defer c.releasing.Unlock()
	if c.proc == nil || c.released {
		return nil
	}
	err := c.proc.Release()
	c.released = err == nil
	return err
}

// streams are the ends of a container's standard streams on this side.
type streams struct {
	log      *crilog.Writer
	input    input
	pumps    sync.WaitGroup
	pipes    []*os.File
	audience audience
	// deadline is set when the container has ended: a process that got away with
	// a pipe must not hold up the end, by being silent or by never pausing.
	deadline atomic.Pointer[time.Time]
}

// launch starts the container's process with its streams.
func (s *Supervisor) launch(ctx context.Context, c *container) (*streams, error) {
	log, err := crilog.Open(c.spec.LogPath, s.opts.LogLimits)
	if err != nil {
		return nil, &runner.StartError{Reason: "CreateContainerError", Message: "open the log: " + err.Error()}
	}
	st := &streams{log: log, audience: audience{waiting: &s.waiting}}
	theirs, err := st.open(c.spec)
	var proc runner.Process
	if err == nil {
		proc, err = s.launcher.Launch(ctx, c.spec, theirs[0], theirs[1], theirs[2])
	}
	closeFiles(theirs[:])
	if err != nil {
		st.abandon()
		return nil, err
	}
	if tty := proc.Terminal(); tty != nil {
		st.pipes = []*os.File{tty}
	}
	c.mu.Lock()
	c.proc, c.streams = proc, st
	c.mu.Unlock()
	names := []crilog.Stream{crilog.Stdout, crilog.Stderr}
	for i, pipe := range st.pipes {
		st.pumps.Go(func() { s.pump(c, st, pipe, i, names[i]) })
	}
	return st, nil
}

// open makes the streams and returns the container's ends of them. A terminal is
// the launcher's to make.
func (st *streams) open(spec *runner.Spec) (theirs [3]*os.File, err error) {
	if spec.TTY {
		return theirs, nil
	}
	if spec.Stdin {
		if theirs[0], st.input.file, err = pipe(0, unix.O_NONBLOCK); err != nil {
			return theirs, err
		}
		st.input.once = spec.StdinOnce
	}
	for i := range theirs[1:] {
		mine, end, err := pipe(unix.O_NONBLOCK, 0)
		if err != nil {
			return theirs, err
		}
		st.pipes = append(st.pipes, mine)
		theirs[1+i] = end
	}
	return theirs, nil
}

func (st *streams) abandon() {
	for _, f := range st.pipes {
		f.Close()
	}
	st.input.end()
	st.log.Close()
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// drainLimit is how long a pipe is read after the container has ended. All
// that it wrote is in the pipe by then; only a process that got away with the
// writing end can keep it open, and a busy disk slow down the reading.
const drainLimit = 2 * time.Second

// watch waits for the end of a container and sees to everything that follows.
func (s *Supervisor) watch(c *container, st *streams) {
	exit, err := c.proc.Wait()
	now := time.Now()
	if err != nil { // nothing is known of how it ended, and it shall not go on unseen
		s.log.Error("waiting for a container", "container", c.spec.ID, "err", err)
		_ = c.proc.Signal(int(syscall.SIGKILL))
		exit = runner.ExitInfo{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)}
	}
	deadline := now.Add(drainLimit)
	st.deadline.Store(&deadline)
	for _, f := range st.pipes {
		_ = f.SetReadDeadline(deadline)
	}
	st.pumps.Wait()
	for _, f := range st.pipes {
		f.Close()
	}
	st.input.end()
	st.audience.end()
	if err := st.log.Close(); err != nil {
		s.notWritten(c, err)
	}
	word := s.lastWord()
	c.mu.Lock()
	c.status.Phase, c.status.PID, c.status.FinishedAt = runner.Exited, 0, now
	c.status.ExitCode, c.status.Signal, c.status.OOMKilled = exit.Code, exit.Signal, exit.OOMKilled
	c.status.Message, c.status.Lost = word, err != nil
	status := c.status
	c.mu.Unlock()
	if err := s.journal.end(&status); err != nil {
		s.log.Error("recording a container's end", "container", c.spec.ID, "err", err)
	}
	close(c.ended)
	s.push(verbState, &status, nil)
}

// pump copies a stream into the log, and to who is attached, until its end. From the
// deadline of watch on it is what was written by then: a supervisor that was stopped
// for longer, or that waited for a disk, has all of it still before it.
func (s *Supervisor) pump(c *container, st *streams, pipe *os.File, which int, name crilog.Stream) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		s.log.Error("reading a container's output", "container", c.spec.ID, "err", err)
		return
	}
	take := func(output []byte) {
		if err := st.log.Write(name, output); err != nil {
			s.notWritten(c, err)
		}
		st.audience.tell(which, output)
	}
	late := func() bool {
		d := st.deadline.Load()
		return d != nil && time.Now().After(*d)
	}
	// It also returns when the deadline comes while nothing is there to read, and at
	// once if that was before.
	if s.copyOutput(raw, math.MaxInt64, take, late) == nil && !late() {
		return
	}
	_ = pipe.SetReadDeadline(time.Time{})
	_ = s.copyOutput(raw, unread(pipe), take, func() bool { return false })
}

// copyOutput reads until the end, until it has read limit bytes, until it is late, or
// until the file's deadline, which is an error. The buffer is held only while there is
// something to read, not while a silent container is waited for.
func (s *Supervisor) copyOutput(raw syscall.RawConn, limit int64, take func([]byte), late func() bool) error {
	return raw.Read(func(fd uintptr) (done bool) {
		buf := s.buffers.Get().(*[]byte)
		defer s.buffers.Put(buf)
		for limit > 0 {
			n, err := syscall.Read(int(fd), (*buf)[:min(int64(len(*buf)), limit)])
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				return false
			case err != nil || n == 0: // a terminal's end is EIO
				return true
			}
			limit -= int64(n)
			take((*buf)[:n])
			if late() {
				return true
			}
		}
		return true
	})
}
