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

// Remove forgets a name, and what was only named because of it. The layers stay until Prune.
func (s *Store) Remove(ref string) error {
	full, err := Canonical(ref)
	if err != nil {
		return err
	}
	found := false
	err = s.rename(func(names map[string]entry) {
		_, found = names[full]
		delete(names, full)
		for _, n := range untagged(names) {
			delete(names, n)
		}
	})
	if err == nil && !found {
		return fmt.Errorf("no such image: %s", ref)
	}
	return err
}

// untagged returns the implied names to which no tag of their repository leads any more: the
// image was removed, or a later pull of the tag has brought another one.
func untagged(names map[string]entry) (list []string) {
	repository := func(name string) string {
		if i := strings.LastIndexByte(name, '@'); i >= 0 {
			return name[:i]
		}
		return name[:max(strings.LastIndexByte(name, ':'), 0)]
	}
	tagged := map[string]bool{}
	for n, e := range names {
		if !e.Implied && !e.Loaded {
			tagged[repository(n)+"@"+e.Digest] = true
		}
	}
	for n, e := range names {
		if e.Implied && !tagged[n] {
			list = append(list, n)
		}
	}
	return list
}

// PruneOptions say what Prune removes besides what no name leads to.
type PruneOptions struct {
	// Unused removes images that no container uses. Those that were loaded by hand stay: no
	// registry may have them.
	Unused bool
	// Loaded, with Unused, removes those, too.
	Loaded bool
}

// Pruned says what Prune removed.
type Pruned struct {
	Images, Layers int
	Bytes          int64
}

// Prune removes what no name leads to. A layer is in use while somebody holds a shared flock
// on its directory, as the sandbox does while a container lives.
func (s *Store) Prune(o PruneOptions) (Pruned, error) {
	var p Pruned
	busy := map[string]bool{}
	err := s.rename(func(names map[string]entry) { p.Images = s.forgetLocked(names, o, busy) })
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

// forgetLocked takes the names away that Prune removes, and adds to busy what the others lead to.
// It returns how many images have lost their last name.
func (s *Store) forgetLocked(names map[string]entry, o PruneOptions, busy map[string]bool) int {
	moved := map[string]bool{}
	for _, n := range untagged(names) {
		moved[n] = true
	}
	lost := map[string]bool{}
	for n, e := range names {
		img, err := s.imageLocked(n, e)
		if err != nil {
			delete(names, n) // its record is gone or damaged
			continue
		}
		unwanted := moved[n] || o.Unused && (o.Loaded || !e.Loaded)
		if unwanted && !anyHeld(img.Layers) {
			delete(names, n)
			lost[img.Digest] = true
			continue
		}
		busy[hexOf(img.Digest)] = true
		for _, l := range img.Layers {
			busy[filepath.Base(l)] = true
		}
	}
	for _, e := range names {
		delete(lost, e.Digest)
	}
	return len(lost)
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
