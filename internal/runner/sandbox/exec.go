package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// Exec implements runner.Process. The new process joins the namespaces of the
// first one and goes through the same last steps.
func (p *process) Exec(cmd runner.ExecSpec, stdin, stdout, stderr *os.File) (runner.Process, error) {
	if len(cmd.Args) == 0 || cmd.Args[0] == "" {
		return nil, &runner.StartError{Reason: "StartError", Code: 128, Message: "no command specified"}
	}
	target, err := p.openPidfd()
	if err != nil {
		return nil, err
	}
	defer unix.Close(target)
	spec := *p.spec
	spec.TTY = false
	c := p.l.newContainer(&spec, cmd.Args)
	c.ids, c.group = p.ids, p.group
	defer c.close()
	p.join(c, target)
	if err := c.begin([3]*os.File{stdin, stdout, stderr}); err != nil {
		return nil, err
	}
	if err := c.finish(); err != nil {
		return nil, err
	}
	opts := fork.Options{CgroupFD: -1}
	if p.group != nil {
		opts.CgroupFD = p.group.FD()
	}
	child, pidfd, err := p.l.startProgram(c.p, opts)
	if err != nil {
		return nil, c.explain(err)
	}
	_ = unix.Close(pidfd)
	return &added{child: child, group: p.group}, nil
}

// openPidfd returns a pidfd of the first process that is the caller's to close.
func (p *process) openPidfd() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return -1, errGone
	}
	fd, err := unix.FcntlInt(uintptr(p.pidfd), unix.F_DUPFD_CLOEXEC, 3)
	return fd, os.NewSyscallError("fcntl", err)
}

// join writes down how to enter the container's namespaces. The user namespace,
// if there is one, is entered when the others have been: the rights over those
// are ours, not its.
func (p *process) join(c *container, target int) {
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWUTS)
	if !p.spec.HostIPC {
		flags |= unix.CLONE_NEWIPC
	}
	if p.group != nil && p.group.Unified() {
		flags |= unix.CLONE_NEWCGROUP
	}
	if !p.spec.HostPID {
		flags |= unix.CLONE_NEWPID
	}
	c.p.Add(fork.Call("join the container's namespaces", unix.SYS_SETNS, uintptr(target), flags))
	if !p.spec.HostPID {
		c.p.Split()
	}
	if c.ids.nested {
		c.joinUser = target
	}
}

// added is a process that Exec added to a container.
type added struct {
	child *reap.Child
	group *cgroup.Group
}

// PID implements runner.Process.
func (a *added) PID() int { return a.child.PID() }

// Wait implements runner.Process.
func (a *added) Wait() (runner.ExitInfo, error) {
	ws, err := a.child.Wait()
	if err != nil {
		return runner.ExitInfo{}, err
	}
	return runner.ExitFromWait(ws), nil
}

// Signal implements runner.Process.
func (a *added) Signal(sig int) error {
	if sig == int(unix.SIGKILL) {
		return a.child.SignalGroup(unix.SIGKILL)
	}
	return a.child.Signal(unix.Signal(sig))
}

// Exec implements runner.Process: nothing is added to an added process.
func (a *added) Exec(runner.ExecSpec, *os.File, *os.File, *os.File) (runner.Process, error) {
	return nil, fmt.Errorf("sandbox: exec into an exec'd process: %w", os.ErrInvalid)
}

// Release implements runner.Process.
func (a *added) Release() error { return nil }

// LimitsIgnored implements runner.Process.
func (a *added) LimitsIgnored() string { return "" }
