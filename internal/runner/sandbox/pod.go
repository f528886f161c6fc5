package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// pod is what the containers of a pod share. Each part is made when the first
// container needs it, and kept until RemovePod.
type pod struct {
	l   *Launcher
	uid string

	mu       sync.Mutex
	ipc, uts int // namespaces, -1 until made
	shm      sharedTree
	pause    *pause
}

// podOf returns the pod of a container with what that needs of it made.
func (l *Launcher) podOf(spec *runner.Spec) (*pod, error) {
	l.mu.Lock()
	p := l.pods[spec.Pod.UID]
	if p == nil {
		p = &pod{l: l, uid: spec.Pod.UID, ipc: -1, uts: -1}
		l.pods[spec.Pod.UID] = p
	}
	l.mu.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.uts < 0 {
		if err := p.makeNamespaces(spec); err != nil {
			return nil, err
		}
	}
	if !p.shm.made && !spec.HostIPC {
		if err := p.makeShm(); err != nil {
			return nil, err
		}
	}
	if spec.ShareProcesses && !spec.HostPID && p.pause == nil {
		var err error
		if p.pause, err = l.startPause(p.uid, spec); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// makeNamespaces makes the pod's ipc and uts namespaces, and sets what its manifest says of them and
// of its network.
func (p *pod) makeNamespaces(spec *runner.Spec) error {
	shared, net := splitSysctls(spec)
	if len(net) > 0 {
		if err := p.tuneNetwork(net); err != nil {
			return err
		}
	}
	var err error
	p.l.maker.do(func() { p.ipc, p.uts, err = makeNamespaces(spec.Hostname, shared) })
	return err
}

// namespaceMaker makes namespaces in a thread of its own, which moves from one
// to the next: from a namespace that a user namespace owns there is no way back
// to the machine's. The thread must do nothing else, and not end before the
// process: see runner.Launcher.
type namespaceMaker struct {
	once     sync.Once
	requests chan func()
}

// do calls f in the thread.
func (m *namespaceMaker) do(f func()) {
	m.once.Do(func() {
		m.requests = make(chan func())
		go m.run()
	})
	done := make(chan struct{})
	m.requests <- func() {
		defer close(done)
		f()
	}
	<-done
}

// run is the thread. The first thread of the process is spared: what /proc/self
// shows are its namespaces.
func (m *namespaceMaker) run() {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go m.run()
		m.requests <- func() {} // until the other runs, this thread is not free for it
		runtime.UnlockOSThread()
		return
	}
	for f := range m.requests {
		f()
	}
}

func makeNamespaces(hostname string, sysctls map[string]string) (ipc, uts int, err error) {
	if err := unix.Unshare(unix.CLONE_NEWIPC | unix.CLONE_NEWUTS); err != nil {
		return -1, -1, os.NewSyscallError("unshare", err)
	}
	if hostname != "" {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return -1, -1, &runner.StartError{
				Reason: "CreateContainerConfigError", Message: fmt.Sprintf("hostname %q: %v", hostname, err),
			}
		}
	}
	if err := setSysctls(sysctls); err != nil {
		return -1, -1, err
	}
	if ipc, err = openNamespace("/proc/thread-self/ns/ipc"); err != nil {
		return -1, -1, err
	}
	if uts, err = openNamespace("/proc/thread-self/ns/uts"); err != nil {
		_ = unix.Close(ipc)
		return -1, -1, err
	}
	return ipc, uts, nil
}

// makeMountNamespace makes a copy of the supervisor's mount namespace, own.
func makeMountNamespace(own int) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, os.NewSyscallError("unshare", err)
	}
	fd, err := openNamespace("/proc/thread-self/ns/mnt")
	// What the container mounts must not stay for the sake of this thread.
	return fd, errors.Join(err, os.NewSyscallError("setns", unix.Setns(own, unix.CLONE_NEWNS)))
}

// joinPod moves the child into the pod's namespaces. It is not in another pid
// namespace itself then; the child that it becomes last of all is (command).
//
// In a pid namespace that others use too, a container's processes are known by
// their mount namespace. That is then made here, and kept open: the number of
// one that nobody keeps may be another's a moment later.
func (c *container) joinPod() error {
	if !c.ownsPIDs() {
		var err error
		c.l.maker.do(func() { c.mountNS, err = makeMountNamespace(c.l.host.ownMounts) })
		if err != nil {
			return fmt.Errorf("sandbox: mount namespace: %w", err)
		}
	}
	if ns := c.sharedPIDs(); ns >= 0 {
		if err := c.setns("pid", ns, unix.CLONE_NEWPID); err != nil {
			return err
		}
		if c.l.weak.without("last") {
			c.p.Split()
		}
	}
	if err := c.setns("uts", c.pod.uts, unix.CLONE_NEWUTS); err != nil {
		return err
	}
	if err := c.joinNetwork(); err != nil {
		return err
	}
	if !c.spec.HostIPC {
		if err := c.setns("ipc", c.pod.ipc, unix.CLONE_NEWIPC); err != nil {
			return err
		}
	}
	if c.mountNS >= 0 {
		return c.setns("mount", c.mountNS, unix.CLONE_NEWNS)
	}
	return nil
}

// setns joins a namespace.
func (c *container) setns(kind string, ns int, flag uintptr) error {
	return c.inherit(ns, func(fd uintptr) {
		c.add(fork.Call("join "+kind+" namespace", unix.SYS_SETNS, fd, flag))
	})
}

// ownsPIDs tells whether the container has a pid namespace for itself.
func (c *container) ownsPIDs() bool {
	return !c.spec.HostPID && !c.spec.ShareProcesses && c.spec.ProcessesOf == ""
}

// sharedPIDs returns the pid namespace that the container shares with others of its pod,
// negative if it has its own, or the machine's.
func (c *container) sharedPIDs() int {
	switch {
	case c.spec.HostPID:
		return -1
	case c.spec.ShareProcesses:
		return c.pod.pause.ns
	}
	return c.target.pidfd
}

// newTmpfs makes a tmpfs that is mounted nowhere.
func newTmpfs(size, mode string) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for key, value := range map[string]string{"size": size, "mode": mode} {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return -1, os.NewSyscallError("fsconfig", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	return fd, os.NewSyscallError("fsmount", err)
}

const shmSize = "64m" // as everywhere

// makeShm makes the pod's /dev/shm.
func (p *pod) makeShm() error {
	fd, err := newTmpfs(shmSize, "1777")
	if err != nil {
		return err
	}
	return p.shm.hold(p.l, fd, filepath.Join(p.l.env.Dir, "shm", p.uid))
}

// sharedTree is a mount of which the pod's containers get copies.
type sharedTree struct {
	made bool
	fd   int
	dir  string // where it is mounted, or ""
}

// hold takes a detached mount. Before Linux 6.15, only a mount that is somewhere
// can be copied; it is then mounted at dir.
func (t *sharedTree) hold(l *Launcher, fd int, dir string) error {
	t.made, t.fd = true, fd
	if l.host.copiesDetached {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	t.dir = dir
	return os.NewSyscallError("move_mount", unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// copy returns a detached copy.
func (t *sharedTree) copy() (int, error) { return copyTree(t.fd) }

// release gives it back.
func (t *sharedTree) release() error {
	if !t.made {
		return nil
	}
	_ = unix.Close(t.fd)
	var err error
	if t.dir != "" {
		err = errors.Join(unix.Unmount(t.dir, unix.MNT_DETACH), os.Remove(t.dir))
	}
	*t = sharedTree{}
	return err
}

// copyTree returns a detached copy of a mount.
func copyTree(fd int) (int, error) {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	return tree, os.NewSyscallError("open_tree", err)
}

// release gives everything back. No container of the pod runs any more.
func (p *pod) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	if p.pause != nil {
		errs = append(errs, p.pause.end())
		p.pause = nil
	}
	errs = append(errs, p.shm.release())
	for _, fd := range []*int{&p.ipc, &p.uts} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
	return errors.Join(errs...)
}
