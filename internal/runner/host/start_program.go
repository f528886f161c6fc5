//go:build amd64 || arm64

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// forkExec starts the process in its control group, if it has one. Package fork
// saves some seventy system calls over syscall.ForkExec, and knows what failed.
func (p *process) forkExec(ctx context.Context, path string, args []string, streams [3]*os.File, tty bool) (*reap.Child, error) {
	prog := fork.NewProgram()
	defer prog.Close()
	call := func(name string, nr uintptr, args ...uintptr) { prog.Add(fork.Call(name, nr, args...)) }

	call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, prog.Space(8), 0, unsafe.Sizeof(uint64(0)))
	if err := p.enterGroup(prog); err != nil {
		return nil, err
	}
	call("new session", unix.SYS_SETSID)
	for i, f := range streams {
		fd, err := prog.Inherit(int(f.Fd()))
		if err != nil {
			return nil, err
		}
		call("open stream", unix.SYS_DUP3, fd, uintptr(i), 0)
	}
	call("close files", unix.SYS_CLOSE_RANGE, fork.Status+1, 1<<32-1, 0)
	if tty {
		call("set controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	// Before the change of user: the directories above may be the engine's alone.
	call("enter "+p.dir, unix.SYS_CHDIR, prog.String(p.dir))
	call("set limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, fork.Place(prog, p.launcher.files), 0)
	if tag := p.launcher.ps.tags.Of(p.launcher.mark(p.id)); tag != 0 {
		call("set tag", unix.SYS_PRLIMIT64, 0, reap.LimitOfLocks, fork.Place(prog, unix.Rlimit{Cur: tag, Max: tag}), 0)
	}
	if c := p.credential; c != nil {
		call("set groups", unix.SYS_SETGROUPS, uintptr(len(c.Groups)), fork.PlaceAll(prog, c.Groups))
		call("set group", unix.SYS_SETRESGID, uintptr(c.Gid), uintptr(c.Gid), uintptr(c.Gid))
		call("set user", unix.SYS_SETRESUID, uintptr(c.Uid), uintptr(c.Uid), uintptr(c.Uid))
	}
	// A change of user clears it.
	call("set parent-death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	prog.Announce()
	exec := prog.Len()
	call("exec", unix.SYS_EXECVE, prog.String(path), prog.Strings(args), prog.Strings(p.env))

	child, err := p.launcher.env.Reaper.Start(ctx, func() (int, int, reap.Starting, error) {
		c, err := prog.Start(fork.Options{})
		if err != nil {
			return 0, -1, nil, err
		}
		return c.PID, c.PidFD, c, nil
	})
	var failed *fork.StepError
	if errors.As(err, &failed) && failed.Index == exec {
		return nil, failed.Errno
	}
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return child, nil
}

// enterGroup puts the process into its control group: one of version 2 by birth.
func (p *process) enterGroup(prog *fork.Program) error {
	if p.group == nil {
		return nil
	}
	files, err := p.group.ProcsFDs()
	if err != nil {
		return err
	}
	for _, file := range files {
		fd, err := prog.Inherit(file)
		if err != nil {
			return err
		}
		prog.Add(fork.Call("enter cgroup", unix.SYS_WRITE, fd, prog.String("0"), 1))
	}
	if !p.group.Unified() {
		return nil
	}
	return prog.SplitInto(p.group.FD(), 0)
}

const canLimit = true
