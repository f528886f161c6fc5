package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// pause is the first process of a pid namespace that the containers of a pod
// share. It sleeps, and the kernel collects orphans for it because it ignores
// SIGCHLD. It executes nothing: its program ends in a call that does not return.
//
// A container that may trace it can make it do whatever it likes; so it can do no
// more than they: it has their user, their filter, no capability, and a control
// group with little memory. Its file system is empty.
type pause struct {
	child *reap.Child
	group *cgroup.Group
	ns    int        // the pid namespace
	proc  sharedTree // /proc of that namespace
}

// pauseLimits is what a pause process needs, and a little more.
var pauseLimits = runner.Resources{MemoryLimit: 16 << 20, PidsLimit: 4, CPUShares: 2}

// startPause starts a pause process in namespaces of its own, for a pod to which
// the container spec belongs.
func (l *Launcher) startPause(uid string, spec *runner.Spec) (_ *pause, err error) {
	mine, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(mine)
	defer unix.Close(theirs)
	c := l.newContainer(&runner.Spec{UID: spec.UID, GID: spec.GID}, nil)
	defer c.close()
	if c.ids, err = l.host.resolve(c.spec); err != nil {
		return nil, err
	}
	if c.ids.nested { // its containers have a user namespace each, and no right over its
		c.ids = ids{}
	}
	p := &pause{}
	// Without a group it is what it is: there are none for its containers either.
	p.group, _, _ = l.cgroups.Create(cgroup.Container{Pod: uid, Name: uid + "_pause", PodPids: spec.PodPids, Resources: pauseLimits})
	c.group, c.flags = p.group, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS
	if err := c.pauseProgram(theirs); err != nil {
		return nil, errors.Join(err, p.end())
	}
	if p.child, err = l.startProgram(context.Background(), c.p, fork.Options{Flags: c.flags}); err != nil {
		return nil, errors.Join(fmt.Errorf("start pause: %w", err), p.end())
	}
	proc, err := receiveFile(mine)
	if err == nil {
		err = p.proc.hold(l, proc, filepath.Join(l.env.Dir, "proc", uid))
	}
	if err == nil {
		p.ns, err = openNamespace(procPath(p.child.PID(), "ns/pid"))
	}
	if err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

// pauseProgram writes down what a pause process does. While it is alone in its
// namespace it makes that namespace's /proc, of which others could see what the
// containers must not, and sends it to the supervisor.
func (c *container) pauseProgram(socket int) error {
	c.born()
	if err := c.enterGroup(); err != nil {
		return err
	}
	p := c.p
	//lint:ignore U1000 the kernel reads all of it
	type sigaction struct{ handler, flags, restorer, mask uintptr }
	const sigIgn = 1
	ignore := fork.Place(p, sigaction{handler: sigIgn})
	c.add(
		fork.Call("ignore SIGCHLD", unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), ignore, 0, 8),
		fork.Call("make mounts private", unix.SYS_MOUNT, 0, p.String("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0),
	)
	if err := c.inherit(socket, c.sendProc); err != nil {
		return err
	}
	mnt := filepath.Join(c.l.env.Dir, "mnt")
	c.add(
		mountStep(p, "tmpfs", mnt, "tmpfs", quiet|unix.MS_RDONLY, "size=4k,mode=555"),
		chdirStep(p, mnt),
		fork.Call("pivot_root", unix.SYS_PIVOT_ROOT, p.String("."), p.String(".")),
		fork.Call("leave the machine's root", unix.SYS_UMOUNT2, p.String("."), unix.MNT_DETACH),
		chdirStep(p, "/"),
		fork.Call("close streams", unix.SYS_CLOSE_RANGE, 0, 2, 0),
	)
	if err := c.closeFiles(); err != nil {
		return err
	}
	if err := c.restrict(); err != nil {
		return err
	}
	c.session()
	c.watchParent()
	c.add(
		fork.Call("close the way to the parent", unix.SYS_CLOSE, fork.Status),
		fork.Call("sleep", unix.SYS_PPOLL, 0, 0, 0, 0, 0),
	)
	return nil
}

// sendProc makes the /proc of the process's pid namespace, mounted nowhere, and
// sends it through a socket.
func (c *container) sendProc(socket uintptr) {
	p := c.p
	open := p.Len()
	c.add(
		fork.Call("fsopen proc", unix.SYS_FSOPEN, p.String("proc"), unix.FSOPEN_CLOEXEC),
		fork.Call("dup", unix.SYS_DUP3, ^uintptr(0), rootFD, unix.O_CLOEXEC).Tolerate(unix.EINVAL),
		fork.Call("create proc", unix.SYS_FSCONFIG, rootFD, unix.FSCONFIG_CMD_CREATE, 0, 0, 0),
		fork.Call("mount proc", unix.SYS_FSMOUNT, rootFD, unix.FSMOUNT_CLOEXEC,
			unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC),
	)
	p.Pass(open, open+1, 0)
	// struct cmsghdr, and the descriptor in the last eight bytes.
	control := p.Bytes(append(unix.UnixRights(0)[:unix.SizeofCmsghdr:unix.SizeofCmsghdr], make([]byte, 8)...))
	p.PassTo(open+3, control+unix.SizeofCmsghdr)
	c.add(c.sendStep("send proc", socket, control))
}

// socketPair makes a pair of sockets by which one process passes a file to another.
func socketPair() (mine, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("socketpair", err)
	}
	return fds[0], fds[1], nil
}

// receiveFile takes a descriptor that has been sent already.
func receiveFile(socket int) (int, error) {
	text, control := make([]byte, 16), make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(int32(0)))))
	_, n, _, _, err := unix.Recvmsg(socket, text, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 {
		return -1, fmt.Errorf("sandbox: no file was sent: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1, fmt.Errorf("sandbox: no file was sent: %w", err)
	}
	return fds[0], nil
}

// end kills the process, and with it whatever is left in the namespace, and gives
// back what it had.
func (p *pause) end() error {
	var errs []error
	if p.ns > 0 {
		_ = unix.Close(p.ns)
	}
	if p.child != nil {
		if err := p.child.Signal(unix.SIGKILL); err != nil {
			return err
		}
		_, err := p.child.Wait()
		errs = append(errs, err)
	}
	if p.group != nil {
		errs = append(errs, p.group.Remove())
	}
	return errors.Join(append(errs, p.proc.release())...)
}
