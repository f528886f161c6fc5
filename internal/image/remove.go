package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Remove forgets a name. The layers stay until Prune.
func (s *Store) Remove(ref string) error {
	full, err := Canonical(ref)
	if err != nil {
		return err
	}
	found := false
	err = s.rename(func(names map[string]entry) {
		_, found = names[full]
		delete(names, full)
	})
	if err == nil && !found {
		return fmt.Errorf("no such image: %s", ref)
	}
	return err
}

// Pruned says what Prune removed.
type Pruned struct {
	Images, Layers int
	Bytes          int64
}

// Prune removes what no name leads to, and with all every image that no
// container uses. A layer is in use while somebody holds a shared flock on its
// directory, as the sandbox does while a container lives.
func (s *Store) Prune(all bool) (Pruned, error) {
	var p Pruned
	busy := map[string]bool{}
	err := s.rename(func(names map[string]entry) {
		for n, e := range names {
			img, err := s.imageLocked(n, e)
			if err != nil {
				delete(names, n) // its record is gone or damaged
				continue
			}
			if all && !anyHeld(img.Layers) {
				delete(names, n)
				p.Images++
				continue
			}
			busy[hexOf(img.Digest)] = true
			for _, l := range img.Layers {
				busy[filepath.Base(l)] = true
			}
		}
	})
	if err != nil {
		return p, err
	}
	unlock, err := s.lock()
	if err != nil {
		return p, err
	}
	defer unlock()
	errs := []error{s.sweep("images", busy, nil)}
	errs = append(errs, s.sweep("layers", busy, func(path string) {
		if size, err := s.layerSize(path); err == nil {
			p.Layers++
			p.Bytes += size
		}
	}))
	errs = append(errs, s.sweep("tmp", nil, nil))
	return p, errors.Join(errs...)
}

// sweep removes the entries of a subdirectory that nothing keeps.
func (s *Store) sweep(sub string, keep map[string]bool, removing func(path string)) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, sub))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		id, isSize := strings.CutSuffix(e.Name(), ".size")
		path := filepath.Join(s.dir, sub, e.Name())
		if keep[id] || isSize || (e.IsDir() && held(path)) {
			continue
		}
		if removing != nil {
			removing(path)
		}
		errs = append(errs, os.RemoveAll(path))
		if sub == "layers" {
			os.Remove(path + ".size")
		}
	}
	return errors.Join(errs...)
}

func anyHeld(dirs []string) bool {
	for _, d := range dirs {
		if held(d) {
			return true
		}
	}
	return false
}

// held reports whether somebody holds a lock on the directory.
func held(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}
