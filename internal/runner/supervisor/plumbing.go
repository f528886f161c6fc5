package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/terminal"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// plumbing connects a client's streams, which are readers and writers, with the
// descriptors that a process has.
type plumbing struct {
	streams stdio.Streams
	theirs  []*os.File // the process's ends
	index   [3]int     // which of them are its standard streams; -1: none is
	input   *os.File   // our end of its input
	outputs []*os.File // and of its output

	copying sync.WaitGroup // of output
	done    chan struct{}  // closed by close
}

// plumb makes the pipes that the streams need. With mode O_NONBLOCK the ends for
// output are for somebody who uses a poller, with 0 for a process.
func plumb(streams stdio.Streams, mode int) (*plumbing, error) {
	p := &plumbing{streams: streams, index: [3]int{-1, -1, -1}, done: make(chan struct{})}
	err := p.lay(mode)
	if err != nil {
		p.closeTheirs()
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *plumbing) lay(mode int) error {
	if p.streams.Stdin != nil {
		theirs, mine, err := pipe(0, unix.O_NONBLOCK)
		if err != nil {
			return err
		}
		p.input = mine
		p.give(0, theirs)
	}
	for i, w := range []io.Writer{1: p.streams.Stdout, 2: p.streams.Stderr} {
		if w == nil {
			continue
		}
		if i == 2 && same(w, p.streams.Stdout) {
			p.index[2] = p.index[1]
			continue
		}
		mine, theirs, err := pipe(unix.O_NONBLOCK, mode)
		if err != nil {
			return err
		}
		p.outputs = append(p.outputs, mine)
		p.give(i, theirs)
		p.copy(w, mine)
	}
	return nil
}

// same tells whether two writers are one.
func same(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.TypeOf(a).Comparable() && a == b
}

func (p *plumbing) give(i int, theirs *os.File) {
	p.index[i] = len(p.theirs)
	p.theirs = append(p.theirs, theirs)
}

// pipe makes a pipe whose ends have these modes, 0 or O_NONBLOCK: what is for the
// poller, or for a child.
func pipe(reading, writing int) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	for i, mode := range []int{reading, writing} {
		if mode != 0 && err == nil {
			err = unix.SetNonblock(fds[i], true)
		}
	}
	if err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "|0"), os.NewFile(uintptr(fds[1]), "|1")
	for i, f := range []*os.File{r, w} {
		// One that the poller has not taken in cannot be read: it is at its end, for Go,
		// as soon as there is nothing in it.
		if []int{reading, writing}[i] != 0 && err == nil {
			err = f.SetDeadline(time.Time{})
		}
	}
	if err != nil {
		r.Close()
		w.Close()
		return nil, nil, fmt.Errorf("a pipe cannot be waited for (is fs.epoll.max_user_watches used up?): %w", err)
	}
	return r, w, nil
}

// closeTheirs closes the process's ends, once it has them: our own come to their
// end when it has closed its.
func (p *plumbing) closeTheirs() {
	closeFiles(p.theirs)
	p.theirs = nil
}

// feed copies the input in the background. It is not waited for: a Read of the
// client's may take as long as he likes.
func (p *plumbing) feed() {
	if p.input != nil {
		go func() {
			_, _ = io.Copy(p.input, p.streams.Stdin) // who does not read it has ended, or closed it
			p.input.Close()
		}()
	}
}

// useTerminal makes a terminal's end, instead of pipes, what the streams are
// connected with.
func (p *plumbing) useTerminal(mine *os.File) {
	p.outputs = append(p.outputs, mine)
	p.resize(mine)
	out := p.streams.Stdout
	if out == nil {
		out = io.Discard
	}
	p.copy(out, mine)
	if in := p.streams.Stdin; in != nil {
		go func() { _, _ = io.Copy(mine, in) }()
	}
}

// resize gives a terminal the sizes that the client asks for.
func (p *plumbing) resize(mine *os.File) {
	if p.streams.Resize == nil {
		return
	}
	go func() {
		for {
			select {
			case size, ok := <-p.streams.Resize:
				if !ok || terminal.SetSize(mine, size.Width, size.Height) != nil {
					return
				}
			case <-p.done:
				return
			}
		}
	}()
}

// copy copies output, in the background, until its end. At a deadline that is
// set meanwhile it copies what has been written by then.
func (p *plumbing) copy(w io.Writer, mine *os.File) {
	p.copying.Go(func() {
		_, err := io.Copy(w, mine)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			if err != nil { // EIO is the end of a terminal
				mine.Close() // so that whoever writes on learns that nobody reads
			}
			return
		}
		_ = mine.SetReadDeadline(time.Time{})
		_, _ = io.CopyN(w, mine, unread(mine))
	})
}

// unread is how much is in a pipe.
func unread(f *os.File) int64 {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return int64(n)
}

// execDrain is how long it takes to copy what a pipe holds, if nobody holds up
// the copying.
const execDrain = 50 * time.Millisecond

// finish returns when the output has been copied to its end, or what there was of
// it after delay, if that is not 0. When ctx ends it waits no longer for those who
// take it.
func (p *plumbing) finish(ctx context.Context, delay time.Duration) {
	copied := make(chan struct{})
	go func() {
		p.copying.Wait()
		close(copied)
	}()
	if delay > 0 {
		p.expire(time.Now().Add(delay))
	}
	select {
	case <-copied:
		return
	case <-ctx.Done():
	}
	p.expire(time.Now())
	select {
	case <-copied:
	case <-time.After(execDrain):
	}
}

func (p *plumbing) expire(at time.Time) {
	for _, f := range p.outputs {
		_ = f.SetReadDeadline(at)
	}
}

// close ends everything.
func (p *plumbing) close() {
	close(p.done)
	closeFile(p.input)
	closeFiles(p.outputs)
}
