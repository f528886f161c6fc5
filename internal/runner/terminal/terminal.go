// Package terminal opens pseudo-terminals. A terminal has two ends: the process
// has the one that is called a terminal, and whoever shows what the process writes
// has the other one.
package terminal

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Open makes a terminal of this machine: this side's end, in the poller, and the
// process's, which belongs to uid unless that is negative.
func Open(uid int) (mine, theirs *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	mine = os.NewFile(uintptr(fd), "/dev/ptmx")
	defer func() {
		if err != nil {
			mine.Close()
		}
	}()
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, os.NewSyscallError("unlockpt", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, os.NewSyscallError("ptsname", err)
	}
	path := "/dev/pts/" + strconv.Itoa(n)
	theirFD, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	theirs = os.NewFile(uintptr(theirFD), path)
	if uid >= 0 {
		if err = unix.Fchown(theirFD, uid, -1); err != nil {
			theirs.Close()
			return nil, nil, &os.PathError{Op: "chown", Path: path, Err: err}
		}
	}
	return mine, theirs, nil
}

// Take returns this side's end of a terminal that a process has opened and sent. It
// makes sure that it is one: the process may have been led to something else.
func Take(fd int) (*os.File, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(5, 2)) {
		err = unix.ENOTTY
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("the terminal of a process: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), nil
}

// SetSize sets the size of a terminal, in characters, and lets the process know.
func SetSize(mine *os.File, width, height uint16) error {
	raw, err := mine.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
	if err == nil {
		err = os.NewSyscallError("TIOCSWINSZ", set)
	}
	return err
}
