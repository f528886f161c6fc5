package volume

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The names that the writer uses in a volume's directory. Names that begin
// with ".." cannot be asked for by a manifest.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
)

// write makes files what the volume at dir shows, all at once:
//
//	name   ──▶ ..data/name          one link for each first element of a path
//	..data ──▶ ..2026_11_21_…       replaced by one rename
//
// A reader sees all old files or all new ones. Nothing is written when nothing
// has changed.
func (p *Pod) write(dir string, files map[string]file) error {
	for path := range files {
		if !filepath.IsLocal(path) || strings.HasPrefix(path, "..") {
			return fmt.Errorf("invalid path %q in a volume", path)
		}
	}
	if gid, ok := p.fsGroup(); ok {
		for path, f := range files {
			f.mode |= 0o440
			files[path] = f
		}
		defer func() { _ = os.Lchown(dir, -1, gid) }()
	}
	if _, err := p.makeDir(dir, 0o755); err != nil {
		return err
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && same(filepath.Join(dir, old), files) {
		return nil
	}
	next := p.Now().UTC().Format("..2006_01_02_15_04_05.") + rand.Text()[:10]
	if err := p.fill(filepath.Join(dir, next), files); err != nil {
		return errors.Join(err, os.RemoveAll(filepath.Join(dir, next)))
	}
	if err := point(dir, next); err != nil {
		return err
	}
	if err := links(dir, files); err != nil {
		return err
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, filepath.Base(old)))
	}
	return nil
}

// fill makes a new generation of the files.
func (p *Pod) fill(dir string, files map[string]file) error {
	gid, grouped := p.fsGroup()
	mode := os.FileMode(0o755)
	if grouped {
		mode |= os.ModeSetgid
	} else {
		gid = -1
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := own(dir, -1, gid, mode); err != nil {
		return err
	}
	for path, f := range files {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.data, 0o600); err != nil {
			return err
		}
		if err := own(full, f.uid, gid, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// point makes next the generation that is seen.
func point(dir, next string) error {
	tmp := filepath.Join(dir, newDataLink)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(next, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, dataLink))
}

// links makes the links by which the files are seen, and removes those of
// files that are no more, and generations that a crash has left.
func links(dir string, files map[string]file) error {
	want := map[string]bool{dataLink: true}
	for path := range files {
		first, _, _ := strings.Cut(path, "/")
		if want[first] {
			continue
		}
		want[first] = true
		err := os.Symlink(filepath.Join(dataLink, first), filepath.Join(dir, first))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil {
		return err
	}
	want[current] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !want[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// same reports whether the generation at dir holds exactly these files.
func same(dir string, files map[string]file) bool {
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, ok := files[name]
		if !ok {
			return errChanged
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		const bits = os.ModePerm | os.ModeSetuid | os.ModeSetgid | os.ModeSticky
		if info.Mode()&bits != f.mode {
			return errChanged
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, f.data) {
			return errChanged
		}
		n++
		return nil
	})
	return err == nil && n == len(files)
}

var errChanged = errors.New("changed")
