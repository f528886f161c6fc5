package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// target is a container in whose pid namespace another one is; see Spec.ProcessesOf.
type target struct {
	pidfd int // of its first process, which stands for the namespace; negative without
	proc  int // a copy of its /proc, mounted nowhere
}

// findTarget finds the container whose processes this one is to see.
func (c *container) findTarget() error {
	id := c.spec.ProcessesOf
	if id == "" || c.spec.HostPID || c.spec.ShareProcesses {
		return nil
	}
	refuse := func(why string) error {
		return &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("invalid target container: container %q %s", id, why)}
	}
	c.l.mu.Lock()
	p := c.l.running[id]
	c.l.mu.Unlock()
	if p == nil || p.spec.Pod.UID != c.spec.Pod.UID {
		return refuse("is not running")
	}
	pidfd, err := p.child.PidFD()
	if err != nil {
		return refuse("is not running")
	}
	c.target.pidfd, c.opened = pidfd, append(c.opened, pidfd)
	c.l.maker.do(func() { c.target.proc, err = copyProcOf(pidfd, c.l.host.ownMounts) })
	if err != nil {
		return refuse(fmt.Sprintf("does not show its processes: %v", err))
	}
	c.opened = append(c.opened, c.target.proc)
	return nil
}

// copyProcOf returns a copy of what is mounted at /proc in the mount namespace of a process, and
// goes back to the own one. A process that has joined a pid namespace, of which only its children
// will be, still mounts the /proc of the one that it was born in; and who is in there, with the
// right to mount, is somebody whom nobody in there should come near to. What a privileged
// container has mounted in its place is what it gets: nothing is asked of it here.
func copyProcOf(pidfd, own int) (fd int, err error) {
	// Only who shares his root and working directory with nobody may change the namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return -1, os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(pidfd, unix.CLONE_NEWNS); err != nil {
		return -1, os.NewSyscallError("setns", err)
	}
	fd, err = unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if back := unix.Setns(own, unix.CLONE_NEWNS); back != nil {
		panic(fmt.Sprintf("sandbox: no way back to the own mount namespace: %v", back)) // nothing that follows would be where it should
	}
	return fd, os.NewSyscallError("open_tree", err)
}
