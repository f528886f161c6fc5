// Package reap starts child processes and waits for them without a thread
// for each: a child is a pidfd in the runtime's poller.
//
// In a process that is a child subreaper (prctl PR_SET_CHILD_SUBREAPER) it
// also collects the orphans that the kernel hands to it, without ever taking
// away a child that somebody owns. Children that were started otherwise, with
// os/exec for instance, look like orphans; a subreaper starts them here.
package reap

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Status is how a child ended.
type Status = syscall.WaitStatus

// sweepDelay is how long an orphan may stay a zombie. Sweeping once for all
// the children that ended meanwhile keeps it off the hot path.
const sweepDelay = 100 * time.Millisecond

// Reaper knows which children are owned.
type Reaper struct {
	// birth is held for reading while a child exists that is not in owned yet. That
	// takes no longer than a clone: a start that hangs does so afterwards.
	birth sync.RWMutex

	mu    sync.Mutex
	owned map[int]*Child
	// starts are the children on their way to their command, which may make another
	// child that takes their place.
	starts map[Starting]bool
}

// Starting is a child on its way to its command.
type Starting interface {
	// Await returns when the command has been executed, with the process that did:
	// the child itself or, if it has split, another that claims to be a child of
	// this process. Or it returns why not; the processes are then still to be ended.
	Await(ctx context.Context) (pid int, err error)
	// Pending tells whether there is something that Await has not taken note of.
	Pending() bool
}

// New returns a Reaper. Children can be started and waited for at once; only
// orphans need Run.
func New() *Reaper {
	return &Reaper{owned: make(map[int]*Child), starts: make(map[Starting]bool)}
}

// Run collects orphans until ctx is done. Only a subreaper needs it.
func (r *Reaper) Run(ctx context.Context) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
		}
		for again := true; again; {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(sweepDelay):
			}
			again = r.Sweep()
		}
	}
}

// Sweep collects the orphans that have ended. It tells whether to try again: a
// child that its owner is about to collect may hide others behind it.
func (r *Reaper) Sweep() (again bool) {
	var info unix.Siginfo
	for {
		pid, err := peek(&info)
		if err != nil || pid == 0 {
			return false
		}
		if r.owns(pid) {
			return true
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}

// owns tells whether pid was started here, or may have been: the one that a start
// has split off, and that ended before anybody could take note of it, has left a
// word with Await.
func (r *Reaper) owns(pid int) bool {
	known := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.owned[pid] != nil {
			return true
		}
		for s := range r.starts {
			if s.Pending() {
				return true
			}
		}
		return false
	}
	if known() {
		return true
	}
	r.birth.Lock()
	defer r.birth.Unlock()
	return known()
}

// ForkExec starts a program as syscall.ForkExec does; it returns when execve
// has succeeded, or with its error. It sets attr.Sys.PidFD.
func (r *Reaper) ForkExec(argv0 string, argv []string, attr *syscall.ProcAttr) (*Child, error) {
	r.birth.RLock()
	defer r.birth.RUnlock()
	pidfd := -1
	if attr.Sys == nil {
		attr.Sys = &syscall.SysProcAttr{}
	}
	attr.Sys.PidFD = &pidfd
	pid, err := syscall.ForkExec(argv0, argv, attr)
	if err != nil {
		return nil, err
	}
	return r.own(pid, pidfd), nil
}

// Start lets begin make a child of this process, and returns when that has come
// to its command. begin returns the child's process id, and a pidfd of it, or
// -1. When the child cannot come to its command, or ctx ends, it is killed.
func (r *Reaper) Start(ctx context.Context, begin func() (pid, pidfd int, s Starting, err error)) (*Child, error) {
	first, start, err := r.begin(begin)
	if err != nil {
		return nil, err
	}
	pid, err := start.Await(ctx)
	r.mu.Lock()
	delete(r.starts, start)
	r.mu.Unlock()
	if pid == first.pid && err == nil {
		return first, nil
	}
	// The child has split, or failed. Whoever claims to be its successor may have
	// lied: only a child can be owned, and only what is owned is killed.
	var second *Child
	if pid > 0 && pid != first.pid {
		var claim error
		if second, claim = r.adopt(pid); err == nil {
			err = claim
		}
	}
	if err == nil {
		_, err = first.Wait()
		return second, err
	}
	var ended sync.WaitGroup
	for _, c := range []*Child{second, first} {
		if c != nil {
			if ctx.Err() != nil { // it may have come to its command at this moment
				_ = c.SignalSession(syscall.SIGKILL)
			}
			_ = c.Signal(syscall.SIGKILL)
			ended.Go(func() { _, _ = c.Wait() })
		}
	}
	if ctx.Err() == nil { // else it may take a while to die of what it hangs in
		ended.Wait()
	}
	return nil, err
}

func (r *Reaper) begin(begin func() (int, int, Starting, error)) (*Child, Starting, error) {
	r.birth.RLock()
	defer r.birth.RUnlock()
	pid, pidfd, start, err := begin()
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	r.starts[start] = true
	r.mu.Unlock()
	return r.own(pid, pidfd), start, nil
}

// own takes note of a child.
func (r *Reaper) own(pid, pidfd int) *Child {
	var err error
	if pidfd < 0 {
		pidfd, err = unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	} else {
		err = unix.SetNonblock(pidfd, true)
	}
	c := &Child{pid: pid, reaper: r}
	if err == nil {
		c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	}
	r.mu.Lock()
	r.owned[pid] = c
	r.mu.Unlock()
	return c
}

// adopt owns a process that says that it is a child of this one and nobody's
// else, if that is so.
func (r *Reaper) adopt(pid int) (*Child, error) {
	pidfd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	var info unix.Siginfo
	err = unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	r.mu.Lock()
	known := r.owned[pid] != nil
	r.mu.Unlock()
	if err == nil && known {
		err = unix.EEXIST
	}
	if err != nil {
		_ = unix.Close(pidfd)
		return nil, os.NewSyscallError("waitid", err)
	}
	return r.own(pid, pidfd), nil
}

// Child is a child process; its id stays valid until Wait has returned.
type Child struct {
	pid    int
	pidfd  *os.File // nil on kernels without pidfds
	reaper *Reaper

	mu     sync.Mutex
	reaped bool
}

// PID is the child's process id.
func (c *Child) PID() int { return c.pid }

// PidFD returns a pidfd of the child that is the caller's to close;
// os.ErrProcessDone when the child has been collected.
func (c *Child) PidFD() (fd int, err error) {
	err = c.whileUnreaped(func() error {
		fd, err = unix.PidfdOpen(c.pid, 0)
		return err
	})
	return fd, err
}

// Signal sends a signal to the child, never to another process that got its id.
func (c *Child) Signal(sig syscall.Signal) error {
	return c.whileUnreaped(func() error { return syscall.Kill(c.pid, sig) })
}

// SignalGroup sends a signal to the process group that the child leads.
func (c *Child) SignalGroup(sig syscall.Signal) error {
	return c.whileUnreaped(func() error { return syscall.Kill(-c.pid, sig) })
}

func (c *Child) whileUnreaped(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return os.ErrProcessDone
	}
	if err := f(); errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return os.NewSyscallError("kill", err)
	}
	return nil
}

// Ended returns when the child has ended, and leaves it a zombie: its id, its
// group and its session cannot be another's yet.
func (c *Child) Ended() error {
	if c.pidfd == nil {
		return c.endedBlocking()
	}
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var waitErr error
	err = raw.Read(func(fd uintptr) bool {
		var info unix.Siginfo
		for {
			waitErr = unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			if waitErr != unix.EINTR {
				break
			}
		}
		return waitErr != nil || info.Signo != 0
	})
	switch {
	case waitErr != nil:
		return os.NewSyscallError("waitid", waitErr)
	case errors.Is(err, os.ErrClosed):
		return err
	case err != nil:
		// The poller has not taken it in: the kernel has no more room for what this user
		// waits for (fs.epoll.max_user_watches), which a container may have used up. That
		// nothing is known of the end is not the end.
		return c.endedBlocking()
	}
	return nil
}

func (c *Child) endedBlocking() error {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("waitid", err)
		}
	}
}

// Wait returns when the child has ended, and collects it. It is called once.
func (c *Child) Wait() (Status, error) {
	if err := c.Ended(); err != nil {
		c.forget()
		return 0, err
	}
	return c.reap()
}

func (c *Child) reap() (Status, error) {
	defer c.forget()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaped = true
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.pid, &ws, 0, nil)
		if err == nil {
			return ws, nil
		}
		if err != syscall.EINTR {
			return 0, os.NewSyscallError("wait4", err)
		}
	}
}

func (c *Child) forget() {
	if c.pidfd != nil {
		c.pidfd.Close()
	}
	c.reaper.mu.Lock()
	// The id may be a newer child's already.
	if c.reaper.owned[c.pid] == c {
		delete(c.reaper.owned, c.pid)
	}
	c.reaper.mu.Unlock()
}
