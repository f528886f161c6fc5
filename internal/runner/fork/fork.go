// Package fork starts a process whose first moments are a list of system
// calls, without executing a helper program of the machine in between.
//
// A container needs several dozen system calls (mounts, ids, capabilities, a
// seccomp filter) between clone and execve. Go cannot run in that child: the
// runtime's other threads do not exist there. The usual answer is to execute
// the own binary a second time as an "init", which costs a start of the Go
// runtime for every container, and lets the container's processes see that
// binary. This package instead has the parent write the calls down, as a
// Program, and turns them into an executable of their own: a file in memory that
// holds a loop of some forty machine instructions (interpreter_amd64.s,
// interpreter_arm64.s), the list, and the strings that it refers to. The child
// executes that file, and with it loses all that it had of its parent's memory
// and descriptors before it goes anywhere.
//
// Order of events:
//
//  1. The parent builds the Program, seals it as a file in memory, and makes a
//     pair of sockets by which the child will tell how it fares.
//  2. Start marks the goroutine as being in a system call, so that the garbage
//     collector and the scheduler do not wait for it, and calls clone3 with
//     CLONE_VM, CLONE_VFORK and CLONE_CLEAR_SIGHAND: no page table is copied,
//     and no signal handler of the Go runtime can run in the child.
//  3. The child lets the program inherit the descriptors that it names, and
//     executes it. Nothing that it does until then depends on anybody's files, so
//     it takes no time; then Start returns. From now on the child shares
//     nothing with its parent, and whatever holds it up holds up nobody else.
//  4. The child performs the steps. The last one is an execve. A step that
//     fails and is not marked as tolerable ends the child, with a report.
//  5. Await returns when the child's socket is closed: by the execve, or after a
//     report of why that could not be. A child that somebody kills on the way looks
//     like one whose command was killed at once.
//
// The package knows nothing about containers; see package sandbox for that.
package fork

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options are the properties of the process that are fixed at its birth.
type Options struct {
	// Flags are further CLONE_NEW… flags.
	Flags uint64
}

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	//lint:ignore U1000 the kernel reads all of it
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// header is what the interpreter knows besides the steps. The assembly knows its
// layout.
type header struct {
	first  uintptr // address of the first step
	failed uintptr // address of the step that ended the child
	errno  uintptr // and its error
	last   uintptr // address of the last step
	status uintptr // descriptor that a report is written to
	report uintptr // address and size of the report
	size   uintptr
	_      uintptr
}

// reportSteps is how many of the last steps a report tells the errors of.
const reportSteps = 512

// ErrUnsupported is returned on processors that the child's loop has not been
// written for.
var ErrUnsupported = errors.New("fork: not supported on " + runtime.GOARCH)

// errKilled: somebody killed the child before it had split.
var errKilled = errors.New("fork: killed while starting")

// Child is a process on its way through a Program. Whoever started it owns PID
// and PidFD, waits for the process, and calls Await once.
type Child struct {
	PID   int
	PidFD int

	program *Program
	status  *os.File
}

// Start starts the program in a new process. It returns when that process is
// one of its own; Await tells what becomes of it. The descriptors that the
// program passes on must stay open until Start returns.
func (p *Program) Start(opts Options) (*Child, error) {
	defer p.Close()
	if !Supported {
		return nil, ErrUnsupported
	}
	image, err := p.image()
	if err != nil {
		return nil, err
	}
	defer unix.Close(image)
	mine, theirs, err := p.sockets()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	pidfd := new(atomic.Int32)
	pidfd.Store(-1)
	args := opts.args(pidfd)
	prelude := p.prelude(image, theirs)
	pid, errno := vfork(args, &prelude.head)
	runtime.KeepAlive(args)
	runtime.KeepAlive(prelude)
	if errno == 0 {
		if errno = prelude.errno(); errno != 0 {
			end(int(pid), int(pidfd.Load()))
		}
	}
	if errno != 0 {
		_ = unix.Close(mine)
		return nil, &StepError{Name: "clone", Errno: errno}
	}
	return &Child{PID: int(pid), PidFD: int(pidfd.Load()), program: p, status: os.NewFile(uintptr(mine), "start")}, nil
}

// sockets makes the way by which the child tells how it fares. The kernel says
// with each message which process sent it.
func (p *Program) sockets() (mine, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("socketpair", err)
	}
	err = unix.SetNonblock(fds[0], true)
	if err == nil && p.splits > 0 {
		err = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}
	if err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return -1, -1, os.NewSyscallError("setsockopt", err)
	}
	return fds[0], fds[1], nil
}

// args asks the kernel for the child, and to say its pidfd before it runs.
func (o Options) args(pidfd *atomic.Int32) *cloneArgs {
	return &cloneArgs{
		flags:      o.Flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidFD:      uint64(uintptr(unsafe.Pointer(pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
}

// prelude is what the child does while it still shares this process's memory:
// it makes descriptors inheritable and executes the program.
type prelude struct {
	head  header
	calls []call
	empty [1]uintptr // a NULL-terminated vector of nothing
	path  [1]byte    // the empty string
}

func (p *Program) prelude(image, status int) *prelude {
	pre := &prelude{calls: make([]call, 0, len(p.files)+3)}
	add := func(nr uintptr, args ...uintptr) {
		c := call{nr: nr}
		copy(c.args[:], args)
		pre.calls = append(pre.calls, c)
	}
	if status == Status {
		add(unix.SYS_FCNTL, Status, unix.F_SETFD, 0)
	} else {
		add(unix.SYS_DUP3, uintptr(status), Status, 0)
	}
	for _, fd := range p.files {
		add(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0)
	}
	if image == Status { // it was overwritten; see Program.image
		panic("fork: the image has the number of the status")
	}
	empty := uintptr(unsafe.Pointer(&pre.empty[0]))
	add(unix.SYS_EXECVEAT, uintptr(image), uintptr(unsafe.Pointer(&pre.path[0])), empty, empty, unix.AT_EMPTY_PATH)
	add(noSuchCall)
	pre.head.first = uintptr(unsafe.Pointer(&pre.calls[0]))
	pre.head.status = ^uintptr(0)
	return pre
}

// errno is why the program could not be executed.
func (pre *prelude) errno() unix.Errno {
	if pre.head.failed == 0 {
		return 0
	}
	return unix.Errno(pre.head.errno)
}

// end kills a child and waits for it.
func end(pid, pidfd int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	if pidfd >= 0 {
		_ = unix.Close(pidfd)
	}
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Await returns when the program has executed its command, with the process
// that did: the child, or, after a Split, another. If it could not, it returns a
// *StepError, and if ctx ended first, its cause; then both, as far as they are
// known, are the caller's to end. A process after a Split is known by its own
// word: before anything is done to it, it has to be proven to be a child of this
// process.
func (c *Child) Await(ctx context.Context) (pid int, err error) {
	defer c.status.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.status.SetReadDeadline(past) })
	defer stop()
	a := answer{pid: c.PID}
	if c.program.splits > 0 {
		a.pid = 0
	}
	for err == nil && !a.over {
		err = a.read(c)
	}
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("fork: start: %w", context.Cause(ctx))
	case err != nil:
		err = fmt.Errorf("fork: start: %w", err)
	case a.failure != nil:
		err = a.failure
	case a.greetings < c.program.splits:
		err = errKilled
	}
	return a.pid, err
}

// Pending tells whether the child has said something that Await has not read
// yet.
func (c *Child) Pending() bool {
	raw, err := c.status.SyscallConn()
	if err != nil {
		return false // Await has returned
	}
	pending := false
	_ = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		pending = err == nil && n > 0
	})
	return pending
}
