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
// its layout.
type header struct {
	failed uintptr // address of the step that ended the child
	next   uintptr // address of the step being performed
}

// ErrUnsupported is returned on processors that the child's loop has not been
// written for.
var ErrUnsupported = errors.New("fork: not supported on " + runtime.GOARCH)

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
	args := &cloneArgs{
		flags:      opts.Flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidFD:      uint64(uintptr(unsafe.Pointer(&pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if opts.CgroupFD >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(opts.CgroupFD)
	}
	var killed, done atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		for !done.Load() {
			if fd := pidfd.Load(); fd >= 0 {
				killed.Store(true)
				_ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
				return
			}
			time.Sleep(100 * time.Microsecond) // the clone has not happened yet
		}
	})
	pid, errno := vfork(args, &p.head, &p.steps[0])
	done.Store(true)
	cancelled := !stop()
	runtime.KeepAlive(args)
	runtime.KeepAlive(p)

	if errno != 0 {
		return Child{}, &StepError{Name: "clone", Errno: errno}
	}
	child := Child{PID: int(pid), PidFD: int(pidfd.Load())}
	err := p.failure()
	if err == nil && cancelled {
		// The kill may have come before or after the execve; the caller asked
		// for no process either way.
		if !killed.Load() {
			_ = unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0)
		}
		err = fmt.Errorf("fork: start: %w", context.Cause(ctx))
	}
	if err != nil {
		child.reap()
		return Child{}, err
	}
	return child, nil
}

// reap waits for a child that has ended or is about to, and closes its pidfd.
func (c Child) reap() {
	for {
		err := unix.Waitid(unix.P_PIDFD, c.PidFD, nil, unix.WEXITED, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = unix.Close(c.PidFD)
}
