package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// filesystems mounts what every container has.
func (c *container) filesystems(streams [3]*os.File) error {
	c.proc()
	c.dev()
	c.console(streams)
	c.sys()
	if c.spec.HostIPC {
		return nil
	}
	return c.pod.mountShm(c)
}

// proc mounts /proc. That of a pid namespace which this user namespace does
// not own cannot be mounted afresh; the machine's is then bound.
func (c *container) proc() {
	p := c.p
	p.Add(mkdirStep(p, "/proc", 0o755))
	if c.spec.HostPID && c.l.host.userNS {
		p.Add(bindStep(p, "proc", "/proc", unix.MS_REC))
	} else {
		p.Add(mountStep(p, "proc", "/proc", "proc", quiet, ""))
	}
	if c.spec.Privileged {
		return
	}
	for _, path := range c.l.kit.readOnly {
		// The machine's own view of these paths is the same file system; only
		// the mount is read-only.
		p.Add(
			fork.Call("bind "+path, unix.SYS_MOUNT, p.String(path), p.String(path), 0, unix.MS_BIND|unix.MS_REC, 0),
			readOnlyStep(p, path, quiet),
		)
	}
	for _, path := range c.l.kit.maskedDirs {
		p.Add(bindStep(p, c.l.kit.empty, path, 0).Tolerate(unix.ENOENT))
	}
	for _, path := range c.l.kit.masked {
		p.Add(bindStep(p, "dev/null", path, 0).Tolerate(unix.ENOENT))
	}
}

// devices every container has.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// dev mounts /dev and what is below it.
func (c *container) dev() {
	p := c.p
	p.Add(
		mkdirStep(p, "/dev", 0o755),
		mountStep(p, "tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME|c.nodev(), "mode=755,size=65536k"),
	)
	for _, name := range devices {
		p.Add(touchStep(p, "/dev/"+name), bindStep(p, "dev/"+name, "/dev/"+name, 0))
	}
	if c.spec.Privileged {
		c.machineDevices()
	}
	p.Add(
		symlinkStep(p, "/proc/self/fd", "/dev/fd"),
		symlinkStep(p, "/proc/self/fd/0", "/dev/stdin"),
		symlinkStep(p, "/proc/self/fd/1", "/dev/stdout"),
		symlinkStep(p, "/proc/self/fd/2", "/dev/stderr"),
		symlinkStep(p, "pts/ptmx", "/dev/ptmx"),
		mkdirStep(p, "/dev/pts", 0o755),
		mountStep(p, "devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, c.ptsOptions()),
		mkdirStep(p, "/dev/mqueue", 0o755),
		mkdirStep(p, "/dev/shm", 0o755),
	)
	if c.spec.HostIPC {
		p.Add(
			bindStep(p, "dev/mqueue", "/dev/mqueue", 0).Tolerate(unix.ENOENT),
			bindStep(p, "dev/shm", "/dev/shm", 0).Tolerate(unix.ENOENT),
		)
		return
	}
	p.Add(mountStep(p, "mqueue", "/dev/mqueue", "mqueue", quiet, "").Tolerate(unix.ENODEV))
}

const ttyGroup = 5 // the group that owns terminals, on every Linux

func (c *container) ptsOptions() string {
	opts := "newinstance,ptmxmode=0666,mode=0620"
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
		if d.IsDir() {
			c.p.Add(mkdirStep(c.p, path, 0o755))
		} else if d.Type()&fs.ModeDevice != 0 {
			c.deviceNode(path)
		}
		return nil
	})
}

func (c *container) deviceNode(path string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return
	}
	c.p.Add(
		fork.Call("create "+path, unix.SYS_MKNODAT, at, c.p.String(path), uintptr(st.Mode), uintptr(st.Rdev)).Tolerate(unix.EEXIST),
		fork.Call("chown "+path, unix.SYS_FCHOWNAT, at, c.p.String(path), uintptr(st.Uid), uintptr(st.Gid), unix.AT_SYMLINK_NOFOLLOW),
	)
}

// sys mounts /sys, and the container's cgroup when it has one.
func (c *container) sys() {
	p := c.p
	p.Add(mkdirStep(p, "/sys", 0o755))
	switch {
	case !c.spec.Privileged:
		p.Add(bindStep(p, c.l.kit.sys, "/sys", unix.MS_REC))
	case c.l.host.userNS:
		p.Add(bindStep(p, "sys", "/sys", unix.MS_REC))
	default:
		p.Add(mountStep(p, "sysfs", "/sys", "sysfs", quiet, ""))
	}
	if c.group != nil && c.group.Unified() {
		flags := uintptr(quiet | unix.MS_RDONLY)
		if c.spec.Privileged {
			flags = quiet
		}
		p.Add(mountStep(p, "cgroup2", "/sys/fs/cgroup", "cgroup2", flags, "").TolerateAll())
	}
}

// console makes the terminal of the machine that the container's streams are
// known inside, so that programs can find out its name.
func (c *container) console(streams [3]*os.File) {
	if !c.spec.TTY || streams[0] == nil {
		return
	}
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", streams[0].Fd()))
	if err != nil || !strings.HasPrefix(name, "/dev/pts/") {
		return
	}
	c.p.Add(
		touchStep(c.p, "/dev/console"),
		bindStep(c.p, strings.TrimPrefix(name, "/"), "/dev/console", 0).TolerateAll(),
	)
}
