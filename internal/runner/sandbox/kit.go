package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/tree"
)

// kit is what all containers are given parts of. It is mounted at Dir/kit in
// the supervisor's own mount namespace:
//
//	empty/   an empty read-only directory, mounted over what is masked
//	nothing  an empty read-only file, likewise
//	sys/     /sys as containers see it
//	podsys/  the same, of those whose pod has a network of its own
//
// Beside it, and on disk like the layers of images, so that files have the inode
// numbers of one file system:
//
//	points/  the directories and files that something is mounted on in every container
//
// A mount inherits the flags of what it is a copy of, so that one bind mount
// per path is enough where a container's runtime usually needs two calls.
type kit struct {
	empty, nothing, sys string
	podSys              string // where the /sys of pods with a network of their own is mounted
	points              string
	maskedDirs          []string // what exists of the paths in /proc that Kubernetes hides
	masked              []string // the same, files
	readOnly            []string // what exists of those that it makes read-only
}

// Kubernetes' default masked and read-only paths.
var (
	maskedPaths = []string{
		"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats",
	}
	maskedSysPaths = []string{"firmware", "devices/virtual/powercap", "devices/system/cpu/cpu*/thermal_throttle"}
	readOnlyPaths  = []string{"bus", "fs", "irq", "sys", "sysrq-trigger"}
)

func newKit(dir string, h *host) (kit, error) {
	for _, d := range []string{"upper", "work", "links", "mnt", "kit", "memory"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return kit{}, err
		}
	}
	for _, d := range []string{"upper", "work"} {
		_ = tree.Spread(filepath.Join(dir, d)) // a hint
	}
	at := filepath.Join(dir, "kit")
	k := kit{
		empty: filepath.Join(at, "empty"), nothing: filepath.Join(at, "nothing"), sys: filepath.Join(at, "sys"),
		podSys: filepath.Join(at, "podsys"),
		points: filepath.Join(dir, "points"),
	}
	if err := makePoints(k.points); err != nil {
		return kit{}, err
	}
	for _, path := range maskedPaths {
		if st, err := os.Lstat(filepath.Join("/proc", path)); err != nil {
			continue
		} else if st.IsDir() {
			k.maskedDirs = append(k.maskedDirs, path)
		} else {
			k.masked = append(k.masked, path)
		}
	}
	for _, path := range readOnlyPaths {
		if _, err := os.Lstat(filepath.Join("/proc", path)); err == nil {
			k.readOnly = append(k.readOnly, path)
		}
	}
	if err := mountMemory(filepath.Join(dir, "memory")); err != nil {
		return kit{}, err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", at, "tmpfs", flags, "mode=755,size=1m"); err != nil {
		return kit{}, &os.PathError{Op: "mount", Path: at, Err: err}
	}
	for _, d := range []string{"empty", "sys", "podsys"} {
		if err := os.Mkdir(filepath.Join(at, d), 0o755); err != nil {
			return kit{}, err
		}
	}
	// Not opened: a child that is being started might have a copy of the
	// descriptor, and the kernel would not make the mount read-only.
	if err := unix.Mknod(k.nothing, unix.S_IFREG|0o444, 0); err != nil {
		return kit{}, &os.PathError{Op: "create", Path: k.nothing, Err: err}
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil {
		return kit{}, &os.PathError{Op: "remount", Path: at, Err: err}
	}
	return k, mountSys(k.sys, k.empty, h, false)
}

// makePoints makes the lowest layer of all containers. Where an image has none of these
// names, they need not be made in the container's own layer, and be removed with it: that
// was a fifth of the time that a short container takes. What an image has under these
// names hides them.
func makePoints(dir string) error {
	for _, d := range []string{"dev", "etc", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/hosts", "etc/resolv.conf"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// mountMemory makes the place for the layers of containers with a read-only
// root: see layerDirs.
func mountMemory(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size=64m"); err != nil {
		return &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// mountSys prepares /sys. A user namespace does not own the machine's network,
// and so must not mount a sysfs; it gets a copy of the machine's /sys, with the
// cgroup tree hidden, which a sysfs of its own would not contain either.
//
// One that owns its network, own, can mount a sysfs of that, which is what its pods see.
func mountSys(sys, empty string, h *host, own bool) error {
	hide := maskedSysPaths
	var err error
	if !h.userNS || own {
		err = unix.Mount("sysfs", sys, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	} else {
		err = unix.Mount("/sys", sys, "", unix.MS_BIND|unix.MS_REC, "")
		hide = append([]string{"fs/cgroup"}, hide...)
	}
	if err != nil {
		return &os.PathError{Op: "mount", Path: sys, Err: err}
	}
	attr := unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
		Propagation: unix.MS_PRIVATE,
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, sys, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make %s read-only: %w", sys, err)
	}
	var paths []string
	for _, pattern := range hide {
		found, _ := fs.Glob(os.DirFS(sys), pattern) // the patterns are well-formed
		paths = append(paths, found...)
	}
	for _, path := range paths {
		path = filepath.Join(sys, path)
		if err := unix.Mount(empty, path, "", unix.MS_BIND, ""); err != nil {
			return &os.PathError{Op: "mount", Path: path, Err: err}
		}
	}
	return nil
}
