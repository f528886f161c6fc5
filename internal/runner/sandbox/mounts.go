package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// mounts attaches the volumes for which wanted is true, outer ones before those
// inside them. The sources are opened for the supervisor, those of the machine by
// processes of their own (package hostpath), and copied here: the copies belong to
// no directory yet; the child puts each in its place.
func (c *container) mounts(ctx context.Context, wanted func(target string) bool) error {
	list := slices.Clone(c.spec.Mounts)
	if c.spec.TerminationLog != "" && c.spec.TerminationLogPath != "" {
		list = append(list, runner.Mount{Source: c.spec.TerminationLog, Target: c.spec.TerminationLogPath})
	}
	slices.SortStableFunc(list, func(a, b runner.Mount) int { return depth(a.Target) - depth(b.Target) })
	for _, m := range list {
		if !wanted(m.Target) {
			continue
		}
		tree, dir, err := c.openMount(ctx, m)
		if err != nil {
			return c.mountError(m, err)
		}
		if err := c.attach(tree, filepath.Clean(m.Target), dir); err != nil {
			return err
		}
	}
	return nil
}

func depth(path string) int { return strings.Count(filepath.Clean(path), "/") }

// openMount returns a detached copy of the mount's source, with the flags that
// it shall have, and whether it is a directory.
func (c *container) openMount(ctx context.Context, m runner.Mount) (fd int, dir bool, err error) {
	source, dir, err := c.l.volumes.open(ctx, c.spec.Pod.UID, &m)
	if err != nil {
		return -1, false, err
	}
	defer unix.Close(source)
	fd, err = openTree(source, m.Recursive)
	if err != nil {
		return -1, false, err
	}
	c.opened = append(c.opened, fd)
	all := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	switch m.Propagation {
	case "HostToContainer":
		all.Propagation = unix.MS_SLAVE
	case "Bidirectional":
		all.Propagation = unix.MS_SHARED
	}
	if !c.spec.Privileged {
		all.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &all); err != nil {
		return -1, false, os.NewSyscallError("mount_setattr", err)
	}
	// As in Kubernetes, readOnly concerns the volume, not what is mounted in it.
	if m.ReadOnly {
		top := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &top); err != nil {
			return -1, false, os.NewSyscallError("mount_setattr", err)
		}
	}
	return fd, dir, nil
}

// openTree copies the mount of source. In a user namespace a mount with others
// below it cannot be copied without them, which would uncover what they hide.
func openTree(source int, recursive bool) (int, error) {
	if !recursive {
		fd, err := copyTree(source)
		if !errors.Is(err, unix.EINVAL) {
			return fd, err
		}
	}
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	fd, err := unix.OpenTree(source, "", flags|unix.AT_RECURSIVE)
	return fd, os.NewSyscallError("open_tree", err)
}

// attach puts a detached mount at target, which is created when it is missing.
func (c *container) attach(tree int, target string, dir bool) error {
	fd, err := c.p.Inherit(tree)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return c.usePath(rootFD, target, dir, fork.Call("mount "+target, unix.SYS_MOVE_MOUNT, fd, c.p.String(""), ^uintptr(0), c.p.String(""),
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH), 2)
}

// procFiles are the files of /proc that may be mounted over, as lxcfs does it;
// runc has the same list. Nothing else may: what a container's runtime reads and
// writes there must be the kernel's.
var procFiles = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
	"/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

// inProc tells whether a mount's target lies in /proc.
func inProc(target string) bool {
	target = filepath.Clean(target)
	return target == "/proc" || strings.HasPrefix(target, "/proc/")
}

func notInProc(target string) bool { return !inProc(target) }

// checkTarget refuses a mount over what must be the kernel's, in runc's words.
func checkTarget(target string) error {
	clean := filepath.Clean(target)
	if !inProc(clean) || slices.Contains(procFiles, clean) {
		return nil
	}
	why := "it is inside /proc"
	if clean == "/proc" {
		why = "it is not of type proc"
	}
	return &runner.StartError{Reason: "StartError", Code: 128, Message: fmt.Sprintf("%q cannot be mounted because %s", clean, why)}
}
