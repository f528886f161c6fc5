package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Recover kills and removes what a former manager of the same owner has left:
// the groups of all its pods, and those of the names given, which may lie
// outside of a pod's. It is called before any group is made.
func (m *Manager) Recover(names []string) error {
	if !m.discover() {
		return nil
	}
	var errs []error
	for _, t := range m.layout.trees {
		for _, dir := range m.homes(t) {
			errs = append(errs, m.recoverIn(t, dir, names))
		}
	}
	return errors.Join(errs...)
}

// recoverIn removes what is ours from a group of all pods.
func (m *Manager) recoverIn(t *tree, dir string, names []string) error {
	var errs []error
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		ours := strings.HasPrefix(e.Name(), "pod") && strings.HasSuffix(e.Name(), "."+m.key)
		if !e.IsDir() || !ours && !slices.Contains(names, e.Name()) {
			continue
		}
		left := filepath.Join(dir, e.Name())
		errs = append(errs, t.empty(left), t.remove(left))
	}
	_ = t.cfg.Kernel.Rmdir(dir)
	return errors.Join(append(errs, err)...)
}

// homes lists the groups of all pods in a tree: the former manager's own group
// may have been another than ours is, in another session for instance.
func (m *Manager) homes(t *tree) []string {
	var homes []string
	_ = filepath.WalkDir(t.top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil: // removed meanwhile, or not to be read by us
			return fs.SkipDir
		case d.IsDir() && d.Name() == home:
			homes = append(homes, path)
			return fs.SkipDir
		}
		return nil
	})
	return homes
}
