package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// version2 is the single tree. A group whose children shall be limited must not
// contain processes itself (the root excepted), so groups are made
//
//   - in the root of the tree, when we may write there;
//   - else in the nearest group above our own that we may write to and that
//     hands controllers on: below a user's service manager that is app.slice;
//   - else in our own, when it has been delegated to us: its processes, ours,
//     are moved into a leaf first.
type version2 struct {
	cfg         Config
	base        string   // the group in which home lies
	controllers []string // what base hands on
}

// leaf is where our own processes go when their group gets children.
const leaf = "sampan-engine"

func newVersion2(cfg Config, m mount, own string) (*version2, error) {
	top, self := m.point, m.path(own)
	v := &version2{cfg: cfg}
	for _, dir := range append([]string{top}, above(self, top)...) {
		if !v.writable(dir) || (dir != top && populated(dir)) {
			continue
		}
		if dir == top && populated(dir) && !isRoot(dir) {
			continue // the top of a cgroup namespace is a group like any other
		}
		if v.adopt(dir) == nil {
			return v, nil
		}
	}
	if v.writable(self) {
		if err := v.moveProcesses(self); err != nil {
			return nil, fmt.Errorf("cannot make room in the own cgroup: %w", err)
		}
		if err := v.adopt(self); err != nil {
			return nil, err
		}
		return v, nil
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
func (v *version2) writable(dir string) bool {
	return v.cfg.Kernel.Writable(dir) && v.cfg.Kernel.Writable(filepath.Join(dir, "cgroup.procs"))
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

// adopt makes dir the base if it hands on a controller that limits need, or can
// be made to.
func (v *version2) adopt(dir string) error {
	available, err := words(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	v.controllers = nil
	var failed error
	for _, controller := range []string{memory, cpu, pids} {
		if !slices.Contains(available, controller) {
			continue
		}
		if err := v.enable(dir, controller); err != nil {
			failed = err
			continue
		}
		v.controllers = append(v.controllers, controller)
	}
	if len(v.controllers) == 0 {
		if failed == nil {
			failed = fmt.Errorf("the cgroup %s has no memory, cpu or pids controller", dir)
		}
		return failed
	}
	v.base = dir
	return nil
}

// enable makes a group hand on a controller.
func (v *version2) enable(dir, controller string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	enabled, err := words(file)
	if err != nil || slices.Contains(enabled, controller) {
		return err
	}
	return v.cfg.Kernel.Write(file, "+"+controller)
}

func words(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	return strings.Fields(string(text)), err
}

// moveProcesses moves the processes of a group into a leaf of it.
func (v *version2) moveProcesses(dir string) error {
	to := filepath.Join(dir, leaf)
	if err := v.cfg.Kernel.Mkdir(to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for range 100 { // those that were started meanwhile
		all, err := words(filepath.Join(dir, "cgroup.procs"))
		if err != nil || len(all) == 0 {
			return err
		}
		for _, pid := range all {
			if err := v.cfg.Kernel.Write(filepath.Join(to, "cgroup.procs"), pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return fmt.Errorf("processes keep appearing in %s", dir)
}

func (v *version2) dirs(name string) map[string]string {
	dirs := make(map[string]string)
	for _, controller := range v.controllers {
		dirs[controller] = filepath.Join(v.base, home, name)
	}
	return dirs
}

func (v *version2) prepare() error {
	dir := filepath.Join(v.base, home)
	if err := v.cfg.Kernel.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, controller := range v.controllers {
		if err := v.enable(dir, controller); err != nil {
			return err
		}
	}
	return nil
}

func (v *version2) cleanUp() { _ = v.cfg.Kernel.Rmdir(filepath.Join(v.base, home)) }

func (v *version2) limits(r runner.Resources) map[string][]setting {
	s := make(map[string][]setting)
	if r.MemoryLimit > 0 {
		s[memory] = []setting{
			{file: "memory.max", value: fmt.Sprint(r.MemoryLimit)},
			{file: "memory.swap.max", value: "0", optional: true},
			{file: "memory.oom.group", value: "1", optional: true},
		}
	}
	if r.CPUShares > 0 {
		s[cpu] = append(s[cpu], setting{file: "cpu.weight", value: fmt.Sprint(weight(r.CPUShares))})
	}
	if r.CPUQuota > 0 {
		s[cpu] = append(s[cpu], setting{file: "cpu.max", value: fmt.Sprintf("%d %d", r.CPUQuota, period(r))})
	}
	if r.PidsLimit > 0 {
		s[pids] = []setting{{file: "pids.max", value: fmt.Sprint(r.PidsLimit)}}
	}
	return s
}

// weight turns version 1's shares (2…262144, usually 1024) into version 2's
// weight (1…10000, usually 100) by the curve through these three points that
// the container runtimes have agreed on.
func weight(shares int64) int64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return int64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func (v *version2) oomFile() string { return "memory.events" }

func (v *version2) unified() bool { return true }
