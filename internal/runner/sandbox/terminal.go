package sandbox

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/terminal"
)

// terminalFD is the number that a program gives this side's end of its terminal.
const terminalFD = 6

// console is the way by which a process sends this side's end of its terminal.
type console struct{ mine, theirs int }

// openTerminal makes the process's standard streams a terminal of the container's own
// /dev/pts, and sends this side's end through a socket. ptmx is where those are made.
// In a container that runs that may be anything by now: it is opened without waiting,
// and what is asked of it next is refused by all but a terminal.
//
// The streams are closed before, so that what is opened gets their numbers: 0 and 1.
func (c *container) openTerminal(ptmx string, socket uintptr) {
	p := c.p
	how := unix.OpenHow{
		Flags:   unix.O_RDWR | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	}
	c.add(
		fork.Call("close streams", unix.SYS_CLOSE_RANGE, 0, 2, 0),
		fork.Call("open a terminal", unix.SYS_OPENAT2, at, p.String(ptmx), fork.Place(p, how), unsafe.Sizeof(how)),
		fork.Call("unlock the terminal", unix.SYS_IOCTL, 0, unix.TIOCSPTLCK, p.Space(8)),
		fork.Call("open the terminal's other end", unix.SYS_IOCTL, 0, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY),
		fork.Call("keep a file", unix.SYS_DUP3, 0, terminalFD, unix.O_CLOEXEC),
		fork.Call("open stream 0", unix.SYS_DUP3, 1, 0, 0),
		fork.Call("open stream 2", unix.SYS_DUP3, 0, 2, 0),
	)
	c.add(
		c.sendStep("send the terminal", socket, p.Bytes(unix.UnixRights(terminalFD))),
		fork.Call("close the terminal's end", unix.SYS_CLOSE, terminalFD),
		fork.Call("close the way for it", unix.SYS_CLOSE, socket),
	)
}

// firstTerminal gives the container's first process its terminal. The working
// directory is the container's /dev, which nobody else can have touched yet. It is
// known as /dev/console, too.
func (c *container) firstTerminal() error {
	return c.inherit(c.console.theirs, func(socket uintptr) {
		c.openTerminal("pts/ptmx", socket)
		if c.ids.uid != 0 && !c.ids.nested {
			c.add(fork.Call("own stream", unix.SYS_FCHOWN, 0, uintptr(c.ids.uid), ^uintptr(0)).TolerateAll())
		}
		c.add(touchStep(c.p, "console"), bindStep(c.p, "pts/0", "console", 0).TolerateAll())
	})
}

// sendStep sends a message with the control part at an address.
func (c *container) sendStep(name string, socket, control uintptr) fork.Step {
	p := c.p
	text := p.String("file")
	type iovec struct{ base, len uintptr }
	//lint:ignore U1000 the kernel reads all of it
	type msghdr struct{ name, namelen, iov, iovlen, control, controllen, flags uintptr }
	message := fork.Place(p, msghdr{
		iov: fork.Place(p, iovec{text, 4}), iovlen: 1, control: control, controllen: uintptr(unix.CmsgLen(4)),
	})
	return fork.Call(name, unix.SYS_SENDMSG, socket, message, 0)
}

// takeTerminal returns this side's end of the terminal that a process has sent, nil
// if it has none.
func (c *container) takeTerminal() (*os.File, error) {
	if !c.spec.TTY {
		return nil, nil
	}
	fd, err := receiveFile(c.console.mine)
	if err != nil {
		return nil, err
	}
	tty, err := terminal.Take(fd)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return tty, nil
}
