package host

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/tree"
)

// checkMounts refuses what a plain process cannot be given: everything but what
// it finds in the place where it is. A missing subPath is made there, as in a
// sandbox.
func (l *Launcher) checkMounts(ctx context.Context, mounts []runner.Mount) error {
	for _, m := range mounts {
		if m.Source == "" || filepath.Join(m.Source, m.SubPath) != filepath.Clean(m.Target) {
			return configError("the host runtime has no file system of its own: it cannot mount %s", m.Target)
		}
		if m.SubPath == "" {
			continue
		}
		fd, _, err := l.scout.Open(ctx, m.Source, m.SubPath)
		if err != nil {
			return configError("failed to prepare subPath for volumeMount %q: %v", m.Volume, err)
		}
		_ = unix.Close(fd)
	}
	return nil
}

// SetVolume implements runner.Launcher. There is nothing to make: Launch refuses
// whatever could mount it.
func (l *Launcher) SetVolume(*runner.Volume) error { return nil }

// ReadVolume implements runner.Launcher: there are no volumes.
func (l *Launcher) ReadVolume(*runner.VolumeFile) ([]byte, error) { return nil, runner.ErrNoVolume }

// Usage implements runner.Launcher: what is in the pod's working directory.
func (l *Launcher) Usage(podUID string, _ []*runner.Spec) (runner.PodUsage, error) {
	dir := l.dirs.of(podUID)
	if dir == "" {
		return runner.PodUsage{}, nil
	}
	size, err := tree.Usage(dir)
	if errors.Is(err, fs.ErrNotExist) { // a process of the pod may have removed it
		err = nil
	}
	if err != nil && size == (tree.Size{}) {
		return runner.PodUsage{}, err
	}
	// What could not be read, if anything, is not in it.
	return runner.PodUsage{Shared: runner.DiskUsage{Bytes: size.Bytes, Inodes: size.Inodes}}, nil
}

// Pods implements runner.Launcher.
func (l *Launcher) Pods() ([]string, error) { return nil, nil }

// ReleasePod implements runner.Launcher.
func (l *Launcher) ReleasePod(podUID string) error { return l.RemovePod(podUID) }

// RemovePod implements runner.Launcher.
func (l *Launcher) RemovePod(podUID string) error {
	l.dirs.remove(podUID)
	return nil
}

// Finish implements runner.Launcher.
func (l *Launcher) Finish(ctx context.Context) error { return l.bin.Finish(ctx) }
