package sandbox

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/tree"
)

// remove removes the directories with what the container has written: mostly
// nothing, and then these are the names that there are. Whatever else there is
// goes to the bin, so that no container's end depends on it.
func (d layerDirs) remove(bin interface{ Remove(path string) }) {
	const dirty = "/work/incompat/volatile/dirty"
	_ = unix.Unlink(d.work + dirty)
	for name := filepath.Dir(dirty); name != "/"; name = filepath.Dir(name) {
		_ = unix.Rmdir(d.work + name)
	}
	bin.Remove(d.work)
	bin.Remove(d.upper)
}

// recoverLayers clears away what the containers of a former supervisor wrote.
// It takes a few renames, however much that is. What cannot be renamed stays in
// nobody's way: the names of layers are not used again.
func (l *Launcher) recoverLayers() error {
	for _, name := range []string{"upper", "work", "links"} {
		if err := l.bin.Empty(filepath.Join(l.env.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// layerUsage measures what a container has written. A layer in memory takes
// nothing of the disk.
func (l *Launcher) layerUsage(spec *runner.Spec) runner.DiskUsage {
	if spec.ReadOnlyRoot {
		return runner.DiskUsage{}
	}
	return diskUsage(l.layerDirs(spec).upper)
}

// diskUsage measures a tree. Who owns it may change it meanwhile, so that part
// of it is missed: the largest of a few measurements counts then.
func diskUsage(path string) runner.DiskUsage {
	var most runner.DiskUsage
	for range 3 {
		size, err := tree.Usage(path)
		most.Bytes, most.Inodes = max(most.Bytes, size.Bytes), max(most.Inodes, size.Inodes)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return most
}
