package reap

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// SignalSession sends a signal to every process of the session that the child leads:
// a shell gives each of its jobs a process group of its own.
func (c *Child) SignalSession(sig syscall.Signal) error {
	return c.whileUnreaped(func() error {
		err := syscall.Kill(-c.pid, sig)
		// Until the child is collected, no other session has its number. What is killed
		// can start nothing more; another look finds what was started before.
		for tries := 0; tries < 3 && signalMembers(c.pid, sig) > 0 && sig == syscall.SIGKILL; tries++ {
		}
		return err
	})
}

// signalMembers signals the processes of a session, but for its leader, and tells
// how many it has found that were not zombies.
func signalMembers(sid int, sig syscall.Signal) (n int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == sid || !inSession(pid, sid) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// The number may have become another's before it was opened.
		if inSession(pid, sid) && unix.PidfdSendSignal(fd, sig, nil, 0) == nil {
			n++
		}
		_ = unix.Close(fd)
	}
	return n
}

func inSession(pid, sid int) bool {
	got, err := unix.Getsid(pid)
	return err == nil && got == sid
}
