package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// maxMountData is what mount(2) accepts as options, the final NUL excluded.
const maxMountData = 4095

// root mounts the container's root file system, and opens it: what is mounted in
// it, and made in it, is reached from there (path.go).
func (c *container) root() error {
	if err := c.checkLayers(); err != nil {
		return err
	}
	if err := c.dirs.make(); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	c.made = true
	opts, err := c.overlayOptions()
	if err != nil {
		return err
	}
	p, mnt := c.p, filepath.Join(c.l.env.Dir, "mnt")
	c.add(
		fork.Call("make mounts private", unix.SYS_MOUNT, 0, p.String("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0),
		fork.Call("mount overlay", unix.SYS_MOUNT, p.String("overlay"), p.String(mnt), p.String("overlay"), c.nodev(), p.String(opts)),
	)
	c.openFixed("open the root", mnt, rootFD)
	c.openFixed("open the own process", "/proc/self", selfFD)
	return nil
}

// openFixed opens a directory of the supervisor's under a fixed number.
func (c *container) openFixed(name, path string, fd uintptr) {
	open := c.p.Len()
	c.add(
		fork.Call(name, unix.SYS_OPENAT, at, c.p.String(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC),
		fork.Call(name, unix.SYS_DUP3, ^uintptr(0), fd, unix.O_CLOEXEC).Tolerate(unix.EINVAL), // it has that number already
	)
	c.p.Pass(open, open+1, 0)
}

// nodev keeps device nodes, which root in a container may create, from being
// usable: there is no device cgroup. The devices in /dev are mounts of
// their own.
func (c *container) nodev() uintptr {
	if c.spec.Privileged {
		return 0
	}
	return unix.MS_NODEV
}

// layerDirs are the directories of a container's writable layer, in env.Dir:
// overlayfs's upper directory, its work directory and, rarely, short names for
// the layers below.
//
// They are on disk, so that what a container writes does not take the machine's
// memory; a tmpfs would be half again as fast (docs/adr/0003). A container with
// a read-only root writes nothing but the directories that we mount on, and has
// its layer in memory.
type layerDirs struct{ upper, work, links string }

func (l *Launcher) layerDirs(spec *runner.Spec) layerDirs {
	dir := l.env.Dir
	if spec.ReadOnlyRoot {
		dir = filepath.Join(dir, "memory")
	}
	return layerDirs{
		upper: filepath.Join(dir, "upper", spec.ID), work: filepath.Join(dir, "work", spec.ID),
		links: filepath.Join(l.env.Dir, "links", spec.ID),
	}
}

func (d layerDirs) make() error {
	if err := os.Mkdir(d.upper, 0o755); err != nil {
		return err
	}
	return os.Mkdir(d.work, 0o755)
}

// probeOverlay mounts what every container's root is, once: not every kernel, and not every
// file system below, can do that, and each container would fail.
func (l *Launcher) probeOverlay() error {
	const name = ".probe"
	dirs := layerDirs{upper: filepath.Join(l.env.Dir, "upper", name), work: filepath.Join(l.env.Dir, "work", name)}
	defer dirs.remove(l.bin)
	if err := dirs.make(); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	mnt := filepath.Join(l.env.Dir, "mnt")
	opts := "lowerdir=" + overlayEscaper.Replace(l.kit.points) + ",upperdir=" + overlayEscaper.Replace(dirs.upper) +
		",workdir=" + overlayEscaper.Replace(dirs.work) + ",volatile"
	if l.host.userNS {
		opts += ",userxattr"
	}
	if err := unix.Mount("overlay", mnt, "overlay", 0, opts); err != nil {
		return fmt.Errorf("overlayfs cannot be mounted on the file system of %s: %w", l.env.Dir, err)
	}
	return os.NewSyscallError("umount", unix.Unmount(mnt, unix.MNT_DETACH))
}

// checkLayers tells the user that an image is not there; overlayfs would only
// say that an argument is invalid.
func (c *container) checkLayers() error {
	for _, layer := range c.spec.Layers {
		if st, err := os.Stat(layer); err != nil || !st.IsDir() {
			return &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("image layer %s is not a directory", layer)}
		}
	}
	return nil
}

// overlayOptions names the layers, topmost first; what every container has mounts on is the lowest.
// "volatile" saves a sync of the whole file system below when the container
// ends: nobody reads a container's layer after a crash.
func (c *container) overlayOptions() (string, error) {
	layers := append([]string{c.l.kit.points}, c.spec.Layers...)
	lower := slices.Clone(layers)
	slices.Reverse(lower)
	opts := func() string {
		for i := range lower {
			lower[i] = overlayEscaper.Replace(lower[i])
		}
		s := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + overlayEscaper.Replace(c.dirs.upper) +
			",workdir=" + overlayEscaper.Replace(c.dirs.work) + ",volatile"
		if c.l.host.userNS {
			s += ",userxattr"
		}
		return s
	}
	if s := opts(); len(s) <= maxMountData {
		return s, nil
	}
	// Links have shorter names. They are only needed for the mount.
	if err := os.MkdirAll(c.dirs.links, 0o700); err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	c.linked = true
	for i := range lower {
		layer := layers[len(lower)-1-i]
		lower[i] = strconv.Itoa(i)
		if err := os.Symlink(layer, filepath.Join(c.dirs.links, lower[i])); err != nil {
			return "", fmt.Errorf("sandbox: %w", err)
		}
	}
	c.add(chdirStep(c.p, c.dirs.links))
	s := opts()
	if len(s) > maxMountData {
		return "", &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("the image has too many layers: %d", len(lower))}
	}
	return s, nil
}

var overlayEscaper = strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)

// enterRoot makes the container's root the root of the process, and takes the
// machine's files out of sight, for good.
func (c *container) enterRoot() {
	p := c.p
	c.add(fork.Call("enter the root", unix.SYS_FCHDIR, rootFD))
	if c.spec.ReadOnlyRoot {
		c.add(remountStep(p, ".", unix.MS_RDONLY|c.nodev()))
	}
	c.add(
		// The old root ends up on top of the new one, where "." is until it is gone.
		fork.Call("pivot_root", unix.SYS_PIVOT_ROOT, p.String("."), p.String(".")),
		fork.Call("leave the machine's root", unix.SYS_UMOUNT2, p.String("."), unix.MNT_DETACH),
		chdirStep(p, "/"),
	)
}
