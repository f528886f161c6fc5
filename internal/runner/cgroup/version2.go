package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// leaf is where our own processes go when their group gets children.
const leaf = "sampan-engine"

// version2 returns the single tree of version 2. A group whose children shall be
// limited must not contain processes itself (the root excepted), so groups are
// made
//
//   - in the root of the tree, when we may write there;
//   - else in the nearest group above our own that we may write to and that
//     hands controllers on: below a user's service manager that is app.slice;
//   - else in our own, when it has been delegated to us: its processes, ours,
//     are moved into a leaf first.
//
// Where no group has a controller for us, as when version 1 has them all, groups
// are made nevertheless, to find processes in: a group that hands nothing on may
// have both processes and groups.
func version2(cfg Config, m mount, own string) (*tree, error) {
	top, self := m.point, m.path(own)
	t := &tree{cfg: cfg, unified: true, top: top}
	candidates := append([]string{top}, above(self, top)...)
	for _, dir := range candidates {
		if !t.writable(dir) || (dir != top && populated(dir)) {
			continue
		}
		if dir == top && populated(dir) && !isRoot(dir) {
			continue // the top of a cgroup namespace is a group like any other
		}
		if t.adopt(dir) == nil {
			return t, nil
		}
	}
	if t.writable(self) && hasControllers(self) {
		if err := t.moveProcesses(self); err != nil {
			return nil, fmt.Errorf("cannot make room in the own cgroup: %w", err)
		}
		if err := t.adopt(self); err != nil {
			return nil, err
		}
		return t, nil
	}
	for _, dir := range append(candidates, self) {
		if t.writable(dir) {
			t.base, t.controllers = dir, nil
			return t, nil
		}
	}
	return nil, errors.New("the cgroup of this session is not delegated to the user: " +
		"start with systemd-run --user --scope -p Delegate=yes")
}

// above returns the groups above dir, nearest first, top excluded.
func above(dir, top string) []string {
	var dirs []string
	for dir = filepath.Dir(dir); len(dir) > len(top); dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}

// writable tells whether groups and processes may be put into dir.
func (t *tree) writable(dir string) bool {
	return t.cfg.Kernel.Writable(dir) && t.cfg.Kernel.Writable(filepath.Join(dir, "cgroup.procs"))
}

// populated tells whether a group has processes of its own.
func populated(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	return err != nil || len(strings.Fields(string(text))) > 0
}

// isRoot tells the root of the tree, which alone has no type.
func isRoot(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// hasControllers tells whether a group could hand on something that limits need.
func hasControllers(dir string) bool {
	available, _ := words(filepath.Join(dir, "cgroup.controllers"))
	return slices.ContainsFunc(limiting[:], func(c string) bool { return slices.Contains(available, c) })
}

// adopt makes dir the base if it hands on a controller that limits need, or can
// be made to.
func (t *tree) adopt(dir string) error {
	available, err := words(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	t.base, t.controllers = dir, nil
	var failed error
	for _, controller := range limiting {
		if !slices.Contains(available, controller) {
			continue
		}
		if err := t.handOn(dir, controller); err != nil {
			failed = err
			continue
		}
		t.controllers = append(t.controllers, controller)
	}
	if len(t.controllers) > 0 {
		return nil
	}
	if failed == nil {
		failed = fmt.Errorf("the cgroup %s has no memory, cpu or pids controller", dir)
	}
	return failed
}

// moveProcesses moves the processes of a group into a leaf of it.
func (t *tree) moveProcesses(dir string) error {
	to := filepath.Join(dir, leaf)
	if err := t.cfg.Kernel.Mkdir(to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for range 100 { // those that were started meanwhile
		all, err := words(filepath.Join(dir, "cgroup.procs"))
		if err != nil || len(all) == 0 {
			return err
		}
		for _, pid := range all {
			if err := t.cfg.Kernel.Write(filepath.Join(to, "cgroup.procs"), pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return fmt.Errorf("processes keep appearing in %s", dir)
}
