package sandbox

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// Descriptors that a program gives fixed numbers, since many steps use them.
const (
	rootFD = 4 // the container's root, until it is the root of the process
	selfFD = 5 // the process's own directory in the supervisor's /proc
)

// begin starts the program: signals, limits, control group, streams. Nothing
// of the container's can be seen yet; the paths are the supervisor's.
func (c *container) begin(streams [3]*os.File) error {
	c.born()
	writeSteps(c.p, "/proc/self/oom_score_adj", fmt.Sprint(c.oomScore()), false)
	// Before a user namespace is made for the container, for which it holds too.
	if n := c.l.processes; n > 0 {
		c.add(fork.Call("set limit of processes", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, fork.Place(c.p, unix.Rlimit{Cur: n, Max: n}), 0))
	}
	if err := c.enterGroup(); err != nil {
		return err
	}
	if w := c.l.weak; w != nil && w.begin != nil {
		if err := w.begin(c); err != nil {
			return err
		}
	}
	return c.streams(streams)
}

// born is what every program begins with.
func (c *container) born() {
	c.add(
		fork.Call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, c.p.Space(8), 0, unsafe.Sizeof(uint64(0))),
		prctlStep("set parent-death signal", unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)),
		fork.Call("umask", unix.SYS_UMASK, 0),
	)
}

// enterGroup puts the process into the container's control group. One of version
// 2 is best entered by birth: to move there costs a wait for all processors.
func (c *container) enterGroup() error {
	if c.group == nil {
		return nil
	}
	files, err := c.group.ProcsFDs()
	if err != nil {
		return fmt.Errorf("sandbox: cgroup: %w", err)
	}
	for _, fd := range files {
		if err := c.inherit(fd, func(fd uintptr) {
			c.add(fork.Call("enter cgroup", unix.SYS_WRITE, fd, c.p.String("0"), 1))
		}); err != nil {
			return err
		}
	}
	if !c.group.Unified() {
		return nil
	}
	flags := c.flags
	c.flags = 0
	return c.p.SplitInto(c.group.FD(), flags)
}

// inherit lets the process have a descriptor and adds the steps that use it.
func (c *container) inherit(fd int, use func(fd uintptr)) error {
	n, err := c.p.Inherit(fd)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	use(n)
	return nil
}

// streams puts the standard streams in their places; those that the container
// does not have follow in missingStreams, and a terminal in openTerminal.
func (c *container) streams(files [3]*os.File) error {
	if c.spec.TTY {
		var err error
		if c.console.mine, c.console.theirs, err = socketPair(); err != nil {
			return err
		}
		c.opened = append(c.opened, c.console.mine, c.console.theirs)
		return nil
	}
	for i, f := range files {
		if f == nil {
			c.missing = append(c.missing, uintptr(i))
			continue
		}
		// Programs expect files that block.
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			return fmt.Errorf("sandbox: stream %d: %w", i, os.NewSyscallError("fcntl", err))
		}
		if err := c.inherit(int(f.Fd()), func(fd uintptr) {
			c.add(fork.Call(fmt.Sprintf("open stream %d", i), unix.SYS_DUP3, fd, uintptr(i), 0))
			c.ownStream(i, fd)
		}); err != nil {
			return err
		}
	}
	return nil
}

// ownStream gives a pipe to the container's user, who could not open /dev/stdout or
// /dev/stderr otherwise.
func (c *container) ownStream(i int, fd uintptr) {
	if c.ids.uid == 0 || c.ids.nested {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(fd), &st); err != nil {
		return
	}
	if t := st.Mode & unix.S_IFMT; t == unix.S_IFIFO || t == unix.S_IFSOCK {
		c.add(fork.Call("own stream", unix.SYS_FCHOWN, uintptr(i), uintptr(c.ids.uid), ^uintptr(0)).TolerateAll())
	}
}

// closeFiles closes all descriptors but the streams that the container has, the
// way to the parent and those that are kept as the numbers behind that.
func (c *container) closeFiles(keep ...int) error {
	from := uintptr(fork.Status + 1)
	for _, file := range keep {
		if err := c.inherit(file, func(fd uintptr) {
			c.add(fork.Call("keep a file", unix.SYS_DUP3, fd, from, unix.O_CLOEXEC))
		}); err != nil {
			return err
		}
		from++
	}
	c.add(fork.Call("close files", unix.SYS_CLOSE_RANGE, from, 1<<32-1, 0))
	for _, i := range c.missing {
		c.add(fork.Call("close files", unix.SYS_CLOSE, i).TolerateAll())
	}
	return nil
}

// missingStreams opens the container's own /dev/null for the streams that it does
// not have, with the container's own rights; a descriptor of the supervisor's would
// be a way to the machine's. In a container that has replaced its /dev/null, that
// is what it gets; it must not be something that makes us wait, and if it cannot
// be opened, the streams are closed.
func (c *container) missingStreams() {
	for i, fd := range c.missing {
		if i > 0 {
			c.add(fork.Call("open stream", unix.SYS_DUP3, c.missing[0], fd, 0).TolerateAll())
			continue
		}
		how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS}
		open := c.p.Len()
		c.add(
			fork.Call("open /dev/null", unix.SYS_OPENAT2, at, c.p.String("/dev/null"), fork.Place(c.p, how), unsafe.Sizeof(how)).TolerateAll(),
			fork.Call("open stream", unix.SYS_DUP3, ^uintptr(0), fd, 0).TolerateAll(), // it has that number already
			fork.Call("let the stream block", unix.SYS_FCNTL, fd, unix.F_SETFL, unix.O_RDWR).TolerateAll(),
		)
		c.p.Pass(open, open+1, 0)
	}
}

// session makes the process the leader of a session and, with a terminal, gives
// it that as its controlling one.
func (c *container) session() {
	c.add(fork.Call("new session", unix.SYS_SETSID))
	if c.spec.TTY {
		c.add(fork.Call("set controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0).Tolerate(unix.EPERM))
	}
}
