// Package hostpath touches paths of this machine that somebody else names: the
// source of a manifest's hostPath, and what is below it.
//
// Such a path may lead to a file system that does not answer: that of a network
// server which is down, or of a FUSE daemon which has stopped. Whoever touches it
// then waits inside the kernel, where no signal reaches him, and a process of
// which one thread waits there cannot end: it keeps its descriptors, its locks
// and its mounts. So no thread of the engine or of a supervisor does it. A Scout
// sends a process for each look, a fork.Program of a few system calls. It has no
// descriptor of ours but a socket to say what it has found, shares no memory with
// us, holds no lock, and is killed when nobody waits for it any more. If that does
// not end it, it is alone in hanging.
//
// What it refuses: to send any more to a path from which one has not come
// back; see ErrNoAnswer.
package hostpath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

const (
	// patience is how long a path may take to answer. A disk that has to spin up
	// needs a third of it.
	patience = 30 * time.Second
	// dying is how long a process takes to die that does not hang.
	dying = time.Second
	// maxLost is how many processes may hang at the same time. One takes some
	// hundred kilobytes.
	maxLost = 256
)

// ErrNoAnswer says that a path does not answer, or that one sent there before has
// not come back yet, or that too many have not come back from anywhere.
var ErrNoAnswer = errors.New("the file system does not answer")

var errKilled = errors.New("somebody has killed the process that was to look")

// Scout sends processes to look at paths. It is safe for concurrent use, and
// starts nothing that outlives a call but what hangs.
type Scout struct {
	reaper   *reap.Reaper
	patience time.Duration

	mu   sync.Mutex
	lost map[string]int // by path: processes that were killed and do not end
	all  int            // their number
}

// New returns a Scout whose processes are children that reaper owns.
func New(reaper *reap.Reaper) *Scout {
	return &Scout{reaper: reaper, patience: patience, lost: make(map[string]int)}
}

// found is what a process says before it ends: what it has looked at and, if it
// was to open that, the descriptor.
type found struct {
	stat unix.Statx_t
	fd   int // -1: none
}

// visit sends a process to a path of the machine, where it does what plan adds to
// its program, with the descriptors of ours that it needs. The error of such a step
// is a *fork.StepError.
func (s *Scout) visit(ctx context.Context, path string, files []int, plan func(p *plan)) (found, error) {
	if !s.goes(path) {
		return found{fd: -1}, ErrNoAnswer
	}
	mine, theirs, err := sockets()
	if err != nil {
		return found{fd: -1}, err
	}
	p, err := newPlan(theirs, files)
	if err != nil {
		_, _ = mine.Close(), unix.Close(theirs)
		return found{fd: -1}, err
	}
	first := p.Len()
	plan(p)
	last := p.Len()
	p.end()
	waits, cancel := context.WithTimeoutCause(ctx, s.patience, ErrNoAnswer)
	defer cancel()
	child, err := s.reaper.Start(waits, func() (int, int, reap.Starting, error) {
		defer unix.Close(theirs)
		c, err := p.Start(fork.Options{})
		if err != nil {
			return 0, -1, nil, err
		}
		return c.PID, c.PidFD, c, nil
	})
	if err != nil && waits.Err() != nil {
		go s.mourn(path, mine)
		return found{fd: -1}, context.Cause(waits)
	}
	defer mine.Close()
	var step *fork.StepError
	if errors.As(err, &step) && (step.Index < first || step.Index >= last) {
		err = fmt.Errorf("hostpath: %v", err) // not the path's
	}
	if err != nil {
		return found{fd: -1}, err
	}
	answer, err := receive(mine)
	if _, waitErr := child.Wait(); err == nil {
		err = waitErr
	}
	if err == nil && p.control != 0 && answer.fd < 0 {
		err = unix.EMFILE // there was no room for it
	}
	if err != nil && answer.fd >= 0 {
		_ = unix.Close(answer.fd)
		answer.fd = -1
	}
	return answer, err
}

// goes tells whether there is hope that one who is sent to path comes back.
func (s *Scout) goes(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[path] == 0 && s.all < maxLost
}

// mourn waits for the end of a process that was killed, which is when the socket
// that it has the other end of is closed, and counts it as lost meanwhile.
func (s *Scout) mourn(path string, socket *os.File) {
	defer socket.Close()
	var rest [1]byte
	ended := func() bool {
		for {
			if _, err := socket.Read(rest[:]); err != nil {
				return !errors.Is(err, os.ErrDeadlineExceeded)
			}
		}
	}
	_ = socket.SetReadDeadline(time.Now().Add(dying))
	if ended() {
		return
	}
	s.count(path, 1)
	defer s.count(path, -1)
	_ = socket.SetReadDeadline(time.Time{})
	ended()
}

func (s *Scout) count(path string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all += n
	if s.lost[path] += n; s.lost[path] == 0 {
		delete(s.lost, path)
	}
}

// sockets makes the way by which a process says what it has found.
func sockets() (mine *os.File, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "scout"), fds[1], nil
}

// receive takes what a process has said that has ended.
func receive(socket *os.File) (found, error) {
	answer := found{fd: -1}
	raw, err := socket.SyscallConn()
	if err != nil {
		return answer, err
	}
	const size = int(unsafe.Sizeof(answer.stat))
	text := unsafe.Slice((*byte)(unsafe.Pointer(&answer.stat)), size)
	control := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	var readErr error
	err = raw.Control(func(fd uintptr) {
		n, oobn, _, _, readErr = unix.Recvmsg(int(fd), text, control, unix.MSG_CMSG_CLOEXEC)
	})
	switch {
	case err != nil:
		return answer, err
	case readErr != nil:
		return answer, os.NewSyscallError("recvmsg", readErr)
	case n != size:
		return answer, errKilled
	}
	messages, err := unix.ParseSocketControlMessage(control[:oobn])
	if err != nil || len(messages) == 0 {
		return answer, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil {
		answer.fd = fds[0]
	}
	return answer, err
}

// plan is the program of a process on its way to a path.
type plan struct {
	*fork.Program
	home    uintptr   // the socket
	files   []uintptr // the descriptors that it was given
	stat    uintptr   // address of what it has found
	control uintptr   // and of the message that has the descriptor; 0: none
}

// rights is a control message with a descriptor.
type rights struct {
	length      uintptr
	level, kind int32
	fd, _       int32
}

// message is the kernel's struct user_msghdr, and vector its struct iovec.
type message struct {
	_, _             uintptr // name and its length: none
	vectors, vectorN uintptr
	control, size    uintptr
	_                uintptr // flags
}

type vector struct{ base, size uintptr }

// here is AT_FDCWD.
const here = ^uintptr(-unix.AT_FDCWD - 1)

// newPlan begins the program: it keeps nothing of ours, and ends with us.
func newPlan(home int, files []int) (*plan, error) {
	p := &plan{Program: fork.NewProgram()}
	kept := []uintptr{fork.Status}
	for _, fd := range append([]int{home}, files...) {
		n, err := p.Inherit(fd)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.files, kept = append(p.files, n), append(kept, n)
	}
	p.home, p.files = p.files[0], p.files[1:]
	slices.Sort(kept)
	next := uintptr(0)
	for _, fd := range append(kept, 1<<32) {
		if next < fd {
			p.Add(fork.Call("close files", unix.SYS_CLOSE_RANGE, next, fd-1, 0))
		}
		next = fd + 1
	}
	p.Add(
		fork.Call("set parent-death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0),
		fork.Call("leave the working directory", unix.SYS_CHDIR, p.String("/")))
	p.MindParent()
	p.stat = p.Space(int(unsafe.Sizeof(unix.Statx_t{})))
	return p, nil
}

// look returns the step that looks at path, or at the open file dir if that is "".
func (p *plan) look(name string, dir uintptr, path string) fork.Step {
	flags := uintptr(0)
	if path == "" {
		flags = unix.AT_EMPTY_PATH
	}
	return fork.Call(name, unix.SYS_STATX, dir, p.String(path), flags, unix.STATX_TYPE|unix.STATX_MODE|unix.STATX_UID, p.stat)
}

// opened is the number of what a process opens; see fork.FirstInherited.
const opened = fork.Status + 1

// open lets the process open something, look at it and send it to us.
func (p *plan) open(step fork.Step) {
	at := p.Len()
	p.Add(step, fork.Call(step.Name, unix.SYS_DUP3, ^uintptr(0), opened, unix.O_CLOEXEC), p.look(step.Name, opened, ""))
	p.Pass(at, at+1, 0)
	p.control = fork.Place(p.Program, rights{
		length: unix.SizeofCmsghdr + 4, level: unix.SOL_SOCKET, kind: unix.SCM_RIGHTS, fd: opened,
	})
}

// end says what was found, and ends the process.
func (p *plan) end() {
	m := message{
		vectors: fork.Place(p.Program, vector{p.stat, unsafe.Sizeof(unix.Statx_t{})}), vectorN: 1, control: p.control,
	}
	if p.control != 0 {
		m.size = unsafe.Sizeof(rights{})
	}
	p.Add(
		fork.Call("answer", unix.SYS_SENDMSG, p.home, fork.Place(p.Program, m), unix.MSG_NOSIGNAL),
		fork.Call("end", unix.SYS_EXIT_GROUP, 0))
}
