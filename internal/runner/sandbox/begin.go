package sandbox

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// begin starts the program: signals, session, cgroup, streams.
func (c *container) begin(streams [3]*os.File) error {
	c.born()
	if c.group != nil {
		files, err := c.group.ProcsFDs()
		if err != nil {
			return fmt.Errorf("sandbox: cgroup: %w", err)
		}
		for _, fd := range files {
			c.p.Add(fork.Call("enter cgroup", unix.SYS_WRITE, uintptr(fd), c.p.String("0"), 1))
		}
	}
	return c.streams(streams)
}

// born is what every program begins with. The parent-death signal is set again
// when the user is known, since a change of user clears it.
func (c *container) born() {
	none := new(unix.Sigset_t)
	c.p.Keep(none)
	c.p.Add(
		fork.Call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, fork.Pointer(none), 0, unsafe.Sizeof(uint64(0))),
		prctlStep("set parent-death signal", unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)),
		fork.Call("new session", unix.SYS_SETSID),
		fork.Call("umask", unix.SYS_UMASK, 0),
	)
}

// streams puts the standard streams in their places. With a terminal, the
// process gets it as its controlling one.
func (c *container) streams(files [3]*os.File) error {
	for i, f := range files {
		if f == nil {
			f = c.l.host.null
		}
		fd, err := c.inheritable(f)
		if err != nil {
			return fmt.Errorf("sandbox: stream %d: %w", i, err)
		}
		c.p.Add(fork.Call(fmt.Sprintf("open stream %d", i), unix.SYS_DUP3, uintptr(fd), uintptr(i), 0))
		c.ownStream(i, fd)
	}
	if c.spec.TTY {
		c.p.Add(fork.Call("set controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0).Tolerate(unix.EPERM))
	}
	return nil
}

// inheritable returns a descriptor of f that is none of the three that the
// child overwrites, and whose file is blocking, as programs expect.
func (c *container) inheritable(f *os.File) (int, error) {
	fd := int(f.Fd())
	if f != c.l.host.null {
		if err := unix.SetNonblock(fd, false); err != nil {
			return -1, os.NewSyscallError("fcntl", err)
		}
	}
	if fd > 2 {
		return fd, nil
	}
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, os.NewSyscallError("fcntl", err)
	}
	c.opened = append(c.opened, fd)
	return fd, nil
}

// ownStream gives a pipe or terminal to the container's user, who could not
// open /dev/stdout or /dev/stderr otherwise.
func (c *container) ownStream(i, fd int) {
	if c.ids.uid == 0 || c.ids.nested {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return
	}
	if t := st.Mode & unix.S_IFMT; t == unix.S_IFIFO || t == unix.S_IFSOCK || (t == unix.S_IFCHR && c.spec.TTY) {
		c.p.Add(fork.Call("own stream", unix.SYS_FCHOWN, uintptr(i), uintptr(c.ids.uid), ^uintptr(0)).TolerateAll())
	}
}
