// Package localpath keeps the directories of a local-path provisioner: those of
// PersistentVolumes that are made for claims, side by side in one directory of this machine.
//
// Nobody but the engine's user can go through that directory, so what a container does in its
// volume reaches no other one's, whatever modes and links it leaves. A volume's own directory may
// be written by every user that a container has, as it is with kind and k3s.
//
// What it refuses: to decide. Which volumes there are is in the API; a directory is made before the
// volume that it belongs to appears there, and set aside before that goes, so that a crash between
// the two leaves an empty directory, or one that is asked for once more.
package localpath

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/disk"
	"github.com/sampan-batch/sampan/internal/runner/trash"
	"github.com/sampan-batch/sampan/internal/tree"
)

// aside is where what is to go waits for its removal; no volume has such a name.
const aside = ".removed"

// Volumes are the directories in one directory. It is safe for concurrent use.
type Volumes struct {
	dir    string
	log    *slog.Logger
	remove func(path string) error

	mu  sync.Mutex
	bin *trash.Bin // nil until there is something to remove
}

// Open returns the volumes in dir, which need not exist yet. What was being removed when the last
// engine ended is removed further. foreign removes what is not this user's to remove; nil: nobody does.
func Open(dir string, log *slog.Logger, foreign func(path string) error) (*Volumes, error) {
	v := &Volumes{dir: dir, log: log, remove: func(path string) error {
		err := tree.Remove(path)
		if foreign != nil && errors.Is(err, fs.ErrPermission) {
			err = foreign(path)
		}
		return err
	}}
	if _, err := os.Lstat(filepath.Join(dir, aside)); errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	_, err := v.trash()
	return v, err
}

// Tidy removes what a crash has left of a Make: directories of no volume that is known, as far as
// they are empty. It is called before anybody makes one. What has files in it stays, whosever it is.
func (v *Volumes) Tidy(known func(name string) bool) error {
	entries, err := os.ReadDir(v.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		fresh := strings.HasPrefix(e.Name(), ".new-")
		if e.IsDir() && (fresh || strings.HasPrefix(e.Name(), "pvc-") && !known(e.Name())) {
			_ = unix.Rmdir(filepath.Join(v.dir, e.Name())) // not if there is anything in it
		}
	}
	return err
}

// Dir is the directory in which they are.
func (v *Volumes) Dir() string { return v.dir }

// Make makes the directory of a volume, unless it is there. It is on the disk when Make returns, and
// has its mode when it has its name.
func (v *Volumes) Make(name string) error {
	path := filepath.Join(v.dir, name)
	switch info, err := os.Lstat(path); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return err
	}
	fresh := filepath.Join(v.dir, ".new-"+name)
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(fresh, 0o777); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return errors.Join(disk.SyncDir(v.dir), disk.SyncDir(filepath.Dir(v.dir)))
}

// Remove sets the directory of a volume aside, which takes one rename however much is in it, and
// has it removed in the background. That there is none is no error.
func (v *Volumes) Remove(name string) error {
	bin, err := v.trash()
	if err != nil {
		return err
	}
	bin.Remove(filepath.Join(v.dir, name))
	return nil
}

func (v *Volumes) trash() (bin *trash.Bin, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bin == nil {
		v.bin, err = trash.OpenWith(filepath.Join(v.dir, aside), v.log, v.remove)
	}
	return v.bin, err
}
