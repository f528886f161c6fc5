package sandbox

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// filesystems mounts what every container has, but for /proc.
func (c *container) filesystems() error {
	if err := c.dev(); err != nil {
		return err
	}
	c.sys()
	return nil
}

// proc mounts /proc. It comes after everything else that is mounted, so that no
// path on the way there can lead through it. That of a pid namespace which this
// user namespace does not own cannot be mounted afresh; the machine's is then
// bound. That of a pid namespace that the process has joined, of which only its
// children will be, is the pod's, or that of the container whose namespace it is.
func (c *container) proc() error {
	p := c.p
	c.add(fork.Call("mkdir /proc", unix.SYS_MKDIRAT, rootFD, p.String("proc"), 0o755).Tolerate(unix.EEXIST))
	c.enterOwn("/proc")
	switch {
	case c.spec.HostPID && c.l.host.userNS:
		c.add(bindStep(p, "/proc", ".", unix.MS_REC))
	case c.target.proc >= 0:
		if err := c.inherit(c.target.proc, func(fd uintptr) { c.moveMount("/proc", fd, ".") }); err != nil {
			return err
		}
	case !c.ownsPIDs() && !c.spec.HostPID:
		if err := c.moveHere("/proc", &c.pod.pause.proc, "."); err != nil {
			return err
		}
	default:
		c.add(mountStep(p, "proc", ".", "proc", quiet, ""))
	}
	if c.spec.Privileged || c.spec.UnmaskedProc {
		return nil
	}
	c.enterOwn("/proc")
	for _, name := range c.l.kit.readOnly {
		// The machine's own view of these paths is the same file system; only
		// the mount is read-only.
		c.add(bindStep(p, name, name, unix.MS_REC), remountStep(p, name, unix.MS_RDONLY|quiet))
	}
	for _, name := range c.l.kit.maskedDirs {
		c.add(bindStep(p, c.l.kit.empty, name, 0).Tolerate(unix.ENOENT))
	}
	for _, name := range c.l.kit.masked {
		c.add(bindStep(p, c.l.kit.nothing, name, 0).Tolerate(unix.ENOENT))
	}
	return nil
}

// moveHere mounts a copy of a tree that the pod shares at a path below the
// working directory.
func (c *container) moveHere(name string, tree *sharedTree, target string) error {
	fd, err := tree.copy()
	if err != nil {
		return fmt.Errorf("sandbox: %s: %w", name, err)
	}
	c.opened = append(c.opened, fd)
	return c.inherit(fd, func(fd uintptr) { c.moveMount(name, fd, target) })
}

func (c *container) moveMount(name string, fd uintptr, target string) {
	c.add(fork.Call("mount "+name, unix.SYS_MOVE_MOUNT, fd, c.p.String(""), at, c.p.String(target), unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// devices every container has, by their numbers.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// dev mounts /dev and what is below it.
//
// The devices are nodes of the container's own, so that what is done to their
// owner and mode is done to nobody else's. Where nodes cannot be made, which is
// in a user namespace, the machine's are bound, which are nobody's there whose
// mode could be changed. Nodes that the container makes itself are of no use:
// only the mounts of these are without nodev.
func (c *container) dev() error {
	p := c.p
	c.add(fork.Call("mkdir /dev", unix.SYS_MKDIRAT, rootFD, p.String("dev"), 0o755).Tolerate(unix.EEXIST))
	c.enterOwn("/dev")
	c.add(mountStep(p, "tmpfs", ".", "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=65536k"))
	c.enterOwn("/dev")
	for _, d := range devices {
		if c.l.host.userNS || c.l.weak.without("devices") {
			c.add(touchStep(p, d.name), bindStep(p, "/dev/"+d.name, d.name, 0))
		} else {
			c.add(nodeStep(p, d.name, unix.S_IFCHR|0o666, uintptr(unix.Mkdev(d.major, d.minor))), bindStep(p, d.name, d.name, 0))
		}
	}
	if c.spec.Privileged {
		c.machineDevices()
	} else {
		c.add(remountStep(p, ".", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_STRICTATIME))
	}
	c.add(
		symlinkStep(p, "/proc/self/fd", "fd"),
		symlinkStep(p, "/proc/self/fd/0", "stdin"),
		symlinkStep(p, "/proc/self/fd/1", "stdout"),
		symlinkStep(p, "/proc/self/fd/2", "stderr"),
		symlinkStep(p, "pts/ptmx", "ptmx"),
		mkdirStep(p, "pts", 0o755),
		mountStep(p, "devpts", "pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, c.ptsOptions()),
		mkdirStep(p, "mqueue", 0o755),
		mkdirStep(p, "shm", 0o755),
	)
	if c.spec.TTY {
		if err := c.firstTerminal(); err != nil {
			return err
		}
	}
	if c.spec.HostIPC {
		c.add(
			bindStep(p, "/dev/mqueue", "mqueue", 0).Tolerate(unix.ENOENT),
			bindStep(p, "/dev/shm", "shm", 0).Tolerate(unix.ENOENT),
		)
		return nil
	}
	c.add(mountStep(p, "mqueue", "mqueue", "mqueue", quiet, "").Tolerate(unix.ENODEV))
	return c.moveHere("/dev/shm", &c.pod.shm, "shm")
}

const ttyGroup = 5 // the group that owns terminals, on every Linux

// maxTerminals is how many terminals a container may have. The machine has 4096 for
// all (kernel.pty.max), of which 3072 are for others than itself.
const maxTerminals = 256

func (c *container) ptsOptions() string {
	opts := "newinstance,ptmxmode=0666,mode=0620"
	if !c.spec.Privileged {
		opts += fmt.Sprintf(",max=%d", maxTerminals)
	}
	if c.l.host.gids.has(ttyGroup) {
		opts += fmt.Sprintf(",gid=%d", ttyGroup)
	}
	return opts
}

// machineDevices gives a privileged container all devices; in a user namespace
// nodes cannot be made, and there it has the usual ones only.
func (c *container) machineDevices() {
	if c.l.host.userNS {
		return
	}
	_ = filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		switch path {
		case "/dev":
			return nil
		case "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages", "/dev/.udev", "/dev/console":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name := strings.TrimPrefix(path, "/dev/")
		if d.IsDir() {
			c.add(mkdirStep(c.p, name, 0o755))
		} else if d.Type()&fs.ModeDevice != 0 {
			c.deviceNode(path, name)
		}
		return nil
	})
}

// deviceNode makes a node like that at path.
func (c *container) deviceNode(path, name string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return
	}
	c.add(
		nodeStep(c.p, name, uintptr(st.Mode), uintptr(st.Rdev)),
		fork.Call("chown "+path, unix.SYS_FCHOWNAT, at, c.p.String(name), uintptr(st.Uid), uintptr(st.Gid), unix.AT_SYMLINK_NOFOLLOW),
	)
}

// sys mounts /sys, and the container's cgroup when it has one.
func (c *container) sys() {
	p := c.p
	c.add(fork.Call("mkdir /sys", unix.SYS_MKDIRAT, rootFD, p.String("sys"), 0o755).Tolerate(unix.EEXIST))
	c.enterOwn("/sys")
	switch {
	case !c.spec.Privileged:
		sys := c.l.kit.sys
		if own := c.l.networks.sys; c.spec.PodNetwork && own != "" {
			sys = own
		}
		c.add(bindStep(p, sys, ".", unix.MS_REC))
	case c.l.host.userNS:
		c.add(bindStep(p, "/sys", ".", unix.MS_REC))
	default:
		c.add(mountStep(p, "sysfs", ".", "sysfs", quiet, ""))
	}
	if c.group == nil {
		return
	}
	flags := uintptr(quiet | unix.MS_RDONLY)
	if c.spec.Privileged {
		flags = quiet
	}
	if views := c.group.Views(); len(views) > 0 && !c.l.host.userNS {
		c.groupViews(views, flags)
	}
	if c.group.Unified() {
		// The namespace's root is the group that the process is in.
		c.add(fork.Call("unshare cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP))
		c.enterOwn("/sys")
		c.add(mountStep(p, "cgroup2", "fs/cgroup", "cgroup2", flags, "").TolerateAll())
	}
}

// groupViews shows the container its control groups of version 1: programs look there for how much memory
// and how many processors they have.
func (c *container) groupViews(views map[string]string, flags uintptr) {
	p := c.p
	const top = "fs/cgroup"
	c.enterOwn("/sys")
	c.add(mountStep(p, "tmpfs", top, "tmpfs", quiet, "mode=755,size=4k"))
	for _, controller := range slices.Sorted(maps.Keys(views)) {
		own := top + "/" + controller
		c.add(mkdirStep(p, own, 0o755), bindStep(p, views[controller], own, 0), remountStep(p, own, flags))
	}
	c.add(remountStep(p, top, quiet|unix.MS_RDONLY))
}
