// Package fork starts a process whose first moments are a list of system
// calls, without executing a helper program in between.
//
// A container needs several dozen system calls (mounts, ids, capabilities, a
// seccomp filter) between clone and execve. Go cannot run in that child: the
// runtime's other threads do not exist there. The usual answer is to execute
// the own binary a second time as an "init", which costs a start of the Go
// runtime for every container. This package instead has the parent write the
// calls down, as a Program, and has the child work through them in a loop of
// some forty machine instructions (vfork_amd64.s, vfork_arm64.s) that uses
// registers and the Program only: no stack, no Go code, no allocation.
//
// Order of events:
//
//  1. The parent builds the Program; every pointer in it is kept alive by it.
//  2. Start marks the goroutine as being in a system call, so that the garbage
//     collector and the scheduler do not wait for it, and calls clone3 with
//     CLONE_VM, CLONE_VFORK and CLONE_CLEAR_SIGHAND: no page table is copied,
//     and no signal handler of the Go runtime can run in the child.
//  3. The child performs the steps. The last one is an execve. A step that
//     fails and is not marked as tolerable ends the child.
//  4. The kernel wakes the parent when the child has executed its program or
//     has ended; the errno of each step is then in the Program.
//
// The package knows nothing about containers; see package sandbox for that.
package fork

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Child is a process that Start has made. The caller owns PidFD and must wait
// for the process.
type Child struct {
	PID   int
	PidFD int
}

// Options are the properties of the process that are fixed at its birth.
type Options struct {
	// Flags are further CLONE_NEW… flags.
	Flags uint64
	// CgroupFD is an open directory of a version 2 cgroup that the child is
	// born into, or a negative number.
	CgroupFD int
}

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// header is what child and parent share besides the steps. The assembly knows
// its layout, but for second, which the kernel writes.
type header struct {
	failed uintptr // address of the step that ended the child
	last   uintptr // address of the last step
	second int32   // process id of the child after a Split
}

// ErrUnsupported is returned on processors that the child's loop has not been
// written for.
var ErrUnsupported = errors.New("fork: not supported on " + runtime.GOARCH)

// errKilled: somebody killed the child before its execve.
var errKilled = errors.New("fork: killed while starting")

// Start runs the program in a new process and returns when that has executed
// its command, or with a *StepError when it could not. When ctx ends first, the
// process is killed.
func (p *Program) Start(ctx context.Context, opts Options) (Child, error) {
	if !supported {
		return Child{}, ErrUnsupported
	}
	if err := context.Cause(ctx); err != nil {
		return Child{}, err
	}
	p.link()

	var pidfd atomic.Int32
	pidfd.Store(-1)
	args := opts.args(&pidfd)
	unwatch := p.watch(ctx, &pidfd)
	pid, errno := vfork(args, &p.head, &p.steps[0])
	cancelled := unwatch()
	runtime.KeepAlive(args)

	if errno != 0 {
		return Child{}, &StepError{Name: "clone", Errno: errno}
	}
	child := Child{PID: int(pid), PidFD: int(pidfd.Load())}
	err := p.failure()
	if p.splits {
		child, err = p.second(child, err)
	}
	// The kill may have come before or after the execve; the caller asked for no
	// process either way.
	if cancelled {
		err = fmt.Errorf("fork: start: %w", context.Cause(ctx))
	}
	if err != nil {
		child.end()
		child = Child{}
	}
	runtime.KeepAlive(p)
	return child, err
}

// args asks the kernel for the child, and to say its pidfd before it runs.
func (o Options) args(pidfd *atomic.Int32) *cloneArgs {
	args := &cloneArgs{
		flags:      o.Flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidFD:      uint64(uintptr(unsafe.Pointer(pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if o.CgroupFD >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(o.CgroupFD)
	}
	return args
}

// watch kills the child when ctx ends, until what it returns is called, which
// tells whether ctx has ended.
func (p *Program) watch(ctx context.Context, pidfd *atomic.Int32) (unwatch func() bool) {
	var done atomic.Bool
	finished := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(finished)
		for !done.Load() { // the clone may not have happened yet
			if fd := pidfd.Load(); fd >= 0 {
				p.kill(int(fd))
			}
			time.Sleep(time.Millisecond)
		}
	})
	return func() bool {
		done.Store(true)
		if stop() {
			return false
		}
		<-finished // it must not use the descriptor when that has been closed
		return true
	}
}

// kill kills the child, and the one that it has become after a Split first, so
// that the first does not return and let Start go on while the second still
// works through the program.
func (p *Program) kill(pidfd int) {
	if pid := atomic.LoadInt32(&p.head.second); pid != 0 {
		_ = unix.Kill(int(pid), unix.SIGKILL)
	}
	_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
}

// second replaces the child by the one that it has become with a Split. Its id
// cannot be another process's yet, because nobody else waits for it.
func (p *Program) second(first Child, failure error) (Child, error) {
	clean := first.end()
	pid := int(atomic.LoadInt32(&p.head.second))
	if pid == 0 {
		if failure == nil {
			failure = errKilled
		}
		return Child{PidFD: -1}, failure
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return Child{PidFD: -1}, fmt.Errorf("fork: pidfd_open: %w", err)
	}
	if failure == nil && !clean {
		failure = errKilled // and the second may not have come to its execve
	}
	return Child{PID: pid, PidFD: fd}, failure
}

// end kills a child, unless it has ended by itself, waits for it and closes its
// pidfd. It tells whether the child ended with the exit code 0.
func (c Child) end() bool {
	if c.PidFD < 0 {
		return false
	}
	defer unix.Close(c.PidFD)
	if c.PID == 0 {
		return false
	}
	_ = unix.PidfdSendSignal(c.PidFD, unix.SIGKILL, nil, 0)
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(c.PID, &ws, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && ws.Exited() && ws.ExitStatus() == 0
		}
	}
}
