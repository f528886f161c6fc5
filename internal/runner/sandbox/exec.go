package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
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
		return nil, os.ErrProcessDone
	}
	defer unix.Close(target)
	release, ok := p.group.Hold()
	if !ok {
		return nil, os.ErrProcessDone
	}
	defer release()
	spec := *p.spec
	spec.TTY = cmd.TTY
	c := p.l.newContainer(&spec, cmd.Args)
	c.ids, c.group = p.ids, p.group
	defer c.close()
	if err := p.enter(c, target, [3]*os.File{stdin, stdout, stderr}); err != nil {
		return nil, err
	}
	child, err := p.l.startProgram(ctx, c.p, fork.Options{})
	if err != nil {
		return nil, c.explain(err)
	}
	a := &added{child: child}
	if a.terminal, err = c.takeTerminal(); err != nil {
		return nil, errors.Join(err, a.discard())
	}
	return a, nil
}

// enter writes down the program of an added process; target is a pidfd of the first.
func (p *process) enter(c *container, target int, streams [3]*os.File) error {
	if err := c.begin(streams); err != nil {
		return err
	}
	keep := []int{target}
	if c.spec.TTY {
		keep = append(keep, c.console.theirs)
		c.missing = []uintptr{0, 1, 2} // until there is a terminal
	}
	if err := c.closeFiles(keep...); err != nil {
		return err
	}
	p.join(c)
	c.enterDir()
	if err := c.restrict(); err != nil {
		return err
	}
	if c.spec.TTY {
		c.openTerminal("/dev/pts/ptmx", fork.Status+2)
	} else {
		c.missingStreams()
	}
	c.limits() // behind the sending of the terminal: see mayOpen
	return c.command(!p.spec.HostPID)
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
	if p.spec.PodNetwork {
		flags |= unix.CLONE_NEWNET
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
	child    *reap.Child
	terminal *os.File
}

// discard ends a process that nobody has been given.
func (a *added) discard() error {
	_ = a.Signal(int(unix.SIGKILL))
	_, err := a.Wait()
	return err
}

// Terminal implements runner.Process.
func (a *added) Terminal() *os.File { return a.terminal }

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
		return a.child.SignalSession(unix.SIGKILL)
	}
	return a.child.Signal(unix.Signal(sig))
}

// Exec implements runner.Process: nothing is added to an added process.
func (a *added) Exec(context.Context, runner.ExecSpec, *os.File, *os.File, *os.File) (runner.Process, error) {
	return nil, fmt.Errorf("sandbox: exec into an exec'd process: %w", os.ErrInvalid)
}

// Release implements runner.Process.
func (a *added) Release() error { return nil }

// Resize implements runner.Process: what is added has the limits of its container.
func (a *added) Resize(runner.Resources) (string, error) {
	return "", fmt.Errorf("sandbox: resize an exec'd process: %w", os.ErrInvalid)
}

// LimitsIgnored implements runner.Process.
func (a *added) LimitsIgnored() string { return "" }
