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
	// starting is held for reading while a child exists that is not in owned yet.
	starting sync.RWMutex

	mu    sync.Mutex
	owned map[int]*Child
}

// New returns a Reaper. Children can be started and waited for at once; only
// orphans need Run.
func New() *Reaper {
	return &Reaper{owned: make(map[int]*Child)}
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

// owns tells whether pid was started here, waiting for starts in flight if it
// is not known.
func (r *Reaper) owns(pid int) bool {
	known := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.owned[pid] != nil
	}
	if known() {
		return true
	}
	r.starting.Lock()
	defer r.starting.Unlock()
	return known()
}

// ForkExec starts a program as syscall.ForkExec does; it returns when execve
// has succeeded, or with its error. It sets attr.Sys.PidFD.
func (r *Reaper) ForkExec(argv0 string, argv []string, attr *syscall.ProcAttr) (*Child, error) {
	return r.Start(func() (int, int, error) {
		pidfd := -1
		if attr.Sys == nil {
			attr.Sys = &syscall.SysProcAttr{}
		}
		attr.Sys.PidFD = &pidfd
		pid, err := syscall.ForkExec(argv0, argv, attr)
		return pid, pidfd, err
	})
}

// Start lets fork make a child of this process and owns it. fork returns its
// process id, and a pidfd of it, or -1.
func (r *Reaper) Start(fork func() (pid, pidfd int, err error)) (*Child, error) {
	r.starting.RLock()
	defer r.starting.RUnlock()
	pid, pidfd, err := fork()
	if err != nil {
		return nil, err
	}
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
	return c, nil
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
	if waitErr == nil {
		return err
	}
	return os.NewSyscallError("waitid", waitErr)
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
