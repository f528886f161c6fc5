package sandbox

import (
	"fmt"
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

// root mounts the container's root file system and makes it "/"; the working
// directory is then the machine's root.
func (c *container) root() error {
	if err := c.makeDirs(); err != nil {
		return err
	}
	opts, err := c.overlayOptions()
	if err != nil {
		return err
	}
	p, mnt := c.p, filepath.Join(c.l.env.Dir, "mnt")
	p.Add(
		fork.Call("make mounts private", unix.SYS_MOUNT, 0, p.String("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0),
		chdirStep(p, c.dir),
		fork.Call("mount overlay", unix.SYS_MOUNT, p.String("overlay"), p.String(mnt), p.String("overlay"), c.nodev(), p.String(opts)),
	)
	open := p.Len()
	p.Add(
		fork.Call("open the machine's root", unix.SYS_OPENAT, at, p.String("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC),
		chdirStep(p, mnt),
		fork.Call("pivot_root", unix.SYS_PIVOT_ROOT, p.String("."), p.String(".")),
		fork.Call("enter the machine's root", unix.SYS_FCHDIR),
	)
	p.Pass(open, open+3, 0)
	return nil
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

// makeDirs creates the writable layer: u is overlayfs's upper directory, w its
// work directory. They are on disk, so that what a container writes does not
// take the machine's memory.
func (c *container) makeDirs() error {
	for _, layer := range c.spec.Layers {
		if st, err := os.Stat(layer); err != nil || !st.IsDir() {
			return &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("image layer %s is not a directory", layer)}
		}
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	c.madeDir = true
	for _, d := range []string{"u", "w"} {
		if err := os.Mkdir(filepath.Join(c.dir, d), 0o755); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
	}
	return nil
}

// overlayOptions names the layers, topmost first, as seen from c.dir.
// "volatile" saves a sync of the whole file system below when the container
// ends: nobody reads a container's layer after a crash.
func (c *container) overlayOptions() (string, error) {
	lower := slices.Clone(c.spec.Layers)
	slices.Reverse(lower)
	if len(lower) == 0 {
		lower = []string{filepath.Join(c.l.env.Dir, "kit", "empty")}
	}
	opts := func() string {
		for i := range lower {
			lower[i] = overlayEscaper.Replace(lower[i])
		}
		dir := overlayEscaper.Replace(c.dir)
		s := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + dir + "/u,workdir=" + dir + "/w,volatile"
		if c.l.host.userNS {
			s += ",userxattr"
		}
		return s
	}
	if s := opts(); len(s) <= maxMountData {
		return s, nil
	}
	// Links have shorter names.
	if err := os.Mkdir(filepath.Join(c.dir, "l"), 0o700); err != nil {
		return "", fmt.Errorf("sandbox: %w", err)
	}
	for i := range lower {
		layer := c.spec.Layers[len(lower)-1-i]
		lower[i] = "l/" + strconv.Itoa(i)
		if err := os.Symlink(layer, filepath.Join(c.dir, lower[i])); err != nil {
			return "", fmt.Errorf("sandbox: %w", err)
		}
	}
	s := opts()
	if len(s) > maxMountData {
		return "", &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("the image has too many layers: %d", len(lower))}
	}
	return s, nil
}

var overlayEscaper = strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)

// leaveOldRoot takes the machine's files out of sight, for good.
func (c *container) leaveOldRoot() {
	p := c.p
	if c.spec.ReadOnlyRoot {
		p.Add(readOnlyStep(p, "/", c.nodev()))
	}
	p.Add(
		fork.Call("leave the machine's root", unix.SYS_UMOUNT2, p.String("."), unix.MNT_DETACH),
		chdirStep(p, "/"),
	)
}
