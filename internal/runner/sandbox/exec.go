package sandbox

import (
	"context"
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
//
// Until it has left all that is the supervisor's behind, it is in none of the
// container's namespaces; and it is in the container's pid namespace only when all
// that is left to do is to execute the command.
func (p *process) Exec(ctx context.Context, cmd runner.ExecSpec, stdin, stdout, stderr *os.File) (runner.Process, error) {
	if len(cmd.Args) == 0 || cmd.Args[0] == "" {
		return nil, &runner.StartError{Reason: "StartError", Code: 128, Message: "no command specified"}
	}
	target, err := p.child.PidFD()
	if err != nil {
		return nil, errGone
	}
	defer unix.Close(target)
	release, ok := p.group.Hold()
	if !ok {
		return nil, errGone
	}
	defer release()
	spec := *p.spec
	spec.TTY = false
	c := p.l.newContainer(&spec, cmd.Args)
	c.ids, c.group = p.ids, p.group
	defer c.close()
	if err := c.begin([3]*os.File{stdin, stdout, stderr}); err != nil {
		return nil, err
	}
	if err := c.closeFiles(target); err != nil {
		return nil, err
	}
	p.join(c)
	c.enterDir()
	c.limits()
	if err := c.restrict(); err != nil {
		return nil, err
	}
	c.missingStreams()
	c.command(!p.spec.HostPID)
	child, err := p.l.startProgram(ctx, c.p, fork.Options{})
	if err != nil {
		return nil, c.explain(err)
	}
	return &added{child: child, group: p.group}, nil
}

// join writes down how to enter the container's namespaces, of which the pid
// namespace is entered by children only. The user namespace, if there is one, is
// entered when the others have been: the rights over those are ours, not its.
func (p *process) join(c *container) {
	const target = fork.Status + 1 // see closeFiles
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
	c.add(fork.Call("join the container's namespaces", unix.SYS_SETNS, target, flags))
	if c.l.weak.without("last") {
		c.p.Split()
	}
	if c.ids.nested {
		c.add(fork.Call("join user namespace", unix.SYS_SETNS, target, unix.CLONE_NEWUSER))
	}
	c.add(fork.Call("close pidfd", unix.SYS_CLOSE, target))
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
func (a *added) Exec(context.Context, runner.ExecSpec, *os.File, *os.File, *os.File) (runner.Process, error) {
	return nil, fmt.Errorf("sandbox: exec into an exec'd process: %w", os.ErrInvalid)
}

// Release implements runner.Process.
func (a *added) Release() error { return nil }

// LimitsIgnored implements runner.Process.
func (a *added) LimitsIgnored() string { return "" }
