package sandbox

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/tree"
)

// The names that the writer uses in a volume's directory. Names that begin
// with ".." cannot be asked for by a manifest.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
)

// digest is of all that a volume shows.
type digest [sha256.Size]byte

func digestOf(v *runner.Volume) digest {
	h := sha256.New()
	number := func(n int64) { _ = binary.Write(h, binary.LittleEndian, n) }
	id := func(id *uint32) {
		if id == nil {
			number(-1)
			return
		}
		number(int64(*id))
	}
	bytes := func(b []byte) {
		number(int64(len(b)))
		h.Write(b)
	}
	id(v.Group)
	for _, path := range slices.Sorted(maps.Keys(v.Files)) {
		f := v.Files[path]
		bytes([]byte(path))
		number(int64(f.Mode))
		id(f.UID)
		bytes(f.Data)
	}
	return digest(h.Sum(nil))
}

// fileWriter writes the files that a volume shows. It stays in the volume, and
// opens nothing that it has not made: a privileged container may have changed it.
type fileWriter struct {
	dir string
	uid func(*uint32) int // who gets a file, as for chown
	gid int
}

// write makes files what the volume shows, all at once:
//
//	name   ──▶ ..data/name          one link for each first element of a path
//	..data ──▶ ..2026_11_21_…       replaced by one rename
//
// A reader sees all old files or all new ones.
func (w fileWriter) write(files map[string]runner.File) error {
	for path := range files {
		if !filepath.IsLocal(path) || strings.HasPrefix(path, "..") {
			return fmt.Errorf("invalid path %q in a volume", path)
		}
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	next := time.Now().UTC().Format("..2006_01_02_15_04_05.") + rand.Text()[:10]
	if err := w.fill(root, next, files); err != nil {
		return errors.Join(err, w.remove(next))
	}
	_ = root.Remove(newDataLink)
	if err := root.Symlink(next, newDataLink); err != nil {
		return err
	}
	if err := root.Rename(newDataLink, dataLink); err != nil {
		return err
	}
	return w.links(root, next, files)
}

// fill makes a new generation of the files.
func (w fileWriter) fill(root *os.Root, dir string, files map[string]runner.File) error {
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	generation, err := root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer generation.Close()
	if err := w.own(generation, ".", -1, w.dirMode()); err != nil {
		return err
	}
	for path, f := range files {
		if err := w.mkdirs(generation, filepath.Dir(path)); err != nil {
			return err
		}
		if err := generation.WriteFile(path, f.Data, 0o600); err != nil {
			return err
		}
		if err := w.own(generation, path, w.uid(f.UID), fileMode(f.Mode)); err != nil {
			return err
		}
	}
	return nil
}

// dirMode is that of directories. Of those of a group, its members may look
// into all.
func (w fileWriter) dirMode() fs.FileMode {
	if w.gid >= 0 {
		return 0o755 | fs.ModeSetgid
	}
	return 0o755
}

// mkdirs makes a directory and those above it.
func (w fileWriter) mkdirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := w.mkdirs(root, filepath.Dir(dir)); err != nil {
		return err
	}
	switch err := root.Mkdir(dir, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return w.own(root, dir, -1, w.dirMode())
}

func (w fileWriter) own(root *os.Root, path string, uid int, mode fs.FileMode) error {
	if uid >= 0 || w.gid >= 0 {
		if err := root.Lchown(path, uid, w.gid); err != nil {
			return err
		}
	}
	return root.Chmod(path, mode)
}

// links makes the links by which the files are seen, and removes everything
// else: links of files that are no more, former generations.
func (w fileWriter) links(root *os.Root, current string, files map[string]runner.File) error {
	want := map[string]bool{dataLink: true, current: true}
	for path := range files {
		first, _, _ := strings.Cut(path, "/")
		if want[first] {
			continue
		}
		want[first] = true
		to := filepath.Join(dataLink, first)
		if old, err := root.Readlink(first); err == nil && old == to {
			continue
		}
		if err := w.remove(first); err != nil {
			return err
		}
		if err := root.Symlink(to, first); err != nil {
			return err
		}
	}
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	names, err := top.Readdirnames(-1)
	for _, name := range names {
		if !want[name] {
			err = errors.Join(err, w.remove(name))
		}
	}
	return err
}

// remove removes an entry of the volume with all below it.
func (w fileWriter) remove(name string) error { return tree.Remove(w.dir + "/" + name) }

// fileMode turns the bits of chmod(2) into Go's.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits) & fs.ModePerm
	for bit, goBit := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= goBit
		}
	}
	return mode
}
