package image

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/tree"
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
	var errs []error
	_, err = s.sweep("images", busy)
	errs = append(errs, err)
	layers, err := s.sweep("layers", busy)
	for _, l := range layers {
		if l.size >= 0 {
			p.Layers++
			p.Bytes += l.size
		}
	}
	errs = append(errs, err)
	_, err = s.sweep("tmp", nil)
	return p, errors.Join(append(errs, err)...)
}

// swept is an entry that a sweep has removed.
type swept struct {
	size int64 // of a layer; -1: unknown
}

// sweep removes the entries of a subdirectory that nothing keeps. A layer is
// moved away first, so that none is ever half there.
func (s *Store) sweep(sub string, keep map[string]bool) (removed []swept, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, sub))
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		id, isSize := strings.CutSuffix(e.Name(), ".size")
		path := filepath.Join(s.dir, sub, e.Name())
		if keep[id] || isSize || (e.IsDir() && held(path)) {
			continue
		}
		gone := swept{size: -1}
		if sub == "layers" {
			if size, err := s.layerSize(path); err == nil {
				gone.size = size
			}
			away := filepath.Join(s.dir, "tmp", "layer-"+e.Name()+"-"+rand.Text())
			if err := os.Rename(path, away); err != nil {
				errs = append(errs, err)
				continue
			}
			_ = os.Remove(path + ".size")
			path = away
		}
		if err := tree.Remove(path); err != nil {
			errs = append(errs, err)
		}
		removed = append(removed, gone)
	}
	return removed, errors.Join(errs...)
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
