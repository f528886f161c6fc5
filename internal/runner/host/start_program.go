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
func (p *process) forkExec(path string, args []string, streams [3]*os.File, tty bool) (*reap.Child, error) {
	prog, opts := fork.NewProgram(), fork.Options{CgroupFD: -1}
	call := func(name string, nr uintptr, args ...uintptr) { prog.Add(fork.Call(name, nr, args...)) }

	none := new(unix.Sigset_t)
	prog.Keep(none)
	call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, fork.Pointer(none), 0, unsafe.Sizeof(uint64(0)))
	call("new session", unix.SYS_SETSID)
	if p.group != nil {
		opts.CgroupFD = p.group.FD()
		files, err := p.group.ProcsFDs()
		if err != nil {
			return nil, err
		}
		for _, fd := range files {
			call("enter cgroup", unix.SYS_WRITE, uintptr(fd), prog.String("0"), 1)
		}
	}
	for i, f := range streams {
		call("open stream", unix.SYS_DUP3, f.Fd(), uintptr(i), 0)
	}
	if tty {
		call("set controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	// Before the change of user: the directories above may be the engine's alone.
	call("enter "+p.dir, unix.SYS_CHDIR, prog.String(p.dir))
	files := p.launcher.files
	call("set limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, fork.Pointer(&files), 0)
	prog.Keep(&files)
	if c := p.credential; c != nil {
		groups := append([]uint32{0}, c.Groups...) // never empty, to have an address
		prog.Keep(groups)
		call("set groups", unix.SYS_SETGROUPS, uintptr(len(c.Groups)), uintptr(unsafe.Pointer(&groups[0]))+unsafe.Sizeof(groups[0]))
		call("set group", unix.SYS_SETRESGID, uintptr(c.Gid), uintptr(c.Gid), uintptr(c.Gid))
		call("set user", unix.SYS_SETRESUID, uintptr(c.Uid), uintptr(c.Uid), uintptr(c.Uid))
	}
	// A change of user clears it.
	call("set parent-death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	exec := prog.Len()
	call("exec", unix.SYS_EXECVE, prog.String(path), prog.Strings(args), prog.Strings(p.env))

	child, err := p.launcher.env.Reaper.Start(func() (int, int, error) {
		c, err := prog.Start(context.Background(), opts)
		return c.PID, c.PidFD, err
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

const canLimit = true
