package cgroup

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// layout is which trees this machine has for groups.
type layout struct {
	trees []*tree // track first
	// track is that in which every container has a group, to find its processes.
	track *tree
	limit map[string]*tree // by controller, of those that limits need
}

// discover finds out which interface this machine has, and what of it is ours
// to use.
func discover(cfg Config) (layout, error) {
	mounts, err := cgroupMounts(filepath.Join(cfg.Proc, "mountinfo"))
	if err != nil {
		return layout{}, err
	}
	if len(mounts) == 0 {
		return layout{}, errors.New("no cgroup file system is mounted")
	}
	own, err := ownGroups(filepath.Join(cfg.Proc, "cgroup"))
	if err != nil {
		return layout{}, err
	}
	trees, refused := version1(cfg, mounts, own)
	l := newLayout(trees)
	if l.limit[pids] != nil { // there is nothing that version 2 could add
		return l, nil
	}
	for _, m := range mounts {
		if !m.unified {
			continue
		}
		t, err := version2(cfg, m, own[""])
		if err == nil {
			return newLayout(append(trees, t)), nil
		}
		if refused == nil {
			refused = err
		}
	}
	if l.track == nil {
		return layout{}, refused
	}
	return l, nil
}

// newLayout puts the trees to use. A container's processes are looked for in
// that of the pids controller, because they can be kept from multiplying there;
// then where killing is one call; then where they can be frozen.
func newLayout(trees []*tree) layout {
	l := layout{limit: make(map[string]*tree)}
	for _, t := range trees {
		for _, controller := range limiting {
			if t.has(controller) && l.limit[controller] == nil {
				l.limit[controller] = t
			}
		}
	}
	l.track = l.limit[pids]
	for _, fits := range []func(*tree) bool{
		func(t *tree) bool { return t.unified },
		func(t *tree) bool { return t.has(freezer) },
		func(*tree) bool { return true },
	} {
		if i := slices.IndexFunc(trees, fits); i >= 0 && l.track == nil {
			l.track = trees[i]
		}
	}
	if l.track != nil {
		l.trees = append(l.trees, l.track)
	}
	for _, t := range trees {
		if t != l.track {
			l.trees = append(l.trees, t)
		}
	}
	return l
}

// mount is a mounted cgroup file system.
type mount struct {
	point   string   // where
	root    string   // which of its groups is seen there
	options []string // version 1: the controllers, among others
	unified bool
}

// path returns where a group is seen.
func (m mount) path(group string) string {
	if rel, err := filepath.Rel(m.root, group); err == nil && !strings.HasPrefix(rel, "..") {
		group = rel
	}
	return filepath.Join(m.point, group)
}

// Around is a control group that a process is in, itself or by one below it.
type Around struct {
	Dir     string // where it is seen
	Version int    // 1 or 2, of the interface
}

// AllAround returns the control groups that a process is in, as far as they can be
// seen, of those trees that may bound what controller counts: innermost first,
// tree by tree. proc is the process's directory in /proc. A directory need not
// exist where only a part of a tree is mounted.
func AllAround(proc, controller string) []Around { return Seen(proc).Around(proc, controller) }

// Mounts are the mounted cgroup file systems that a process sees.
type Mounts []mount

// Seen returns those of the process whose directory in /proc is proc.
func Seen(proc string) Mounts {
	mounts, _ := cgroupMounts(filepath.Join(proc, "mountinfo"))
	return mounts
}

// Around is AllAround of another process, where this one sees the groups.
func (mounts Mounts) Around(proc, controller string) []Around {
	own, _ := ownGroups(filepath.Join(proc, "cgroup"))
	var list []Around
	for _, m := range mounts {
		group, version := own[controller], 1
		if m.unified {
			group, version = own[""], 2
		}
		if group == "" || !m.unified && !slices.Contains(m.options, controller) {
			continue
		}
		for dir := m.path(group); len(dir) >= len(m.point); dir = filepath.Dir(dir) {
			list = append(list, Around{dir, version})
			if dir == "/" {
				break
			}
		}
	}
	return list
}

// cgroupMounts reads a mountinfo file; see proc_pid_mountinfo(5).
func cgroupMounts(path string) ([]mount, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []mount
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 || (r[0] != "cgroup" && r[0] != "cgroup2") {
			continue
		}
		list = append(list, mount{
			point: unescape(l[4]), root: unescape(l[3]), options: strings.Split(r[2], ","), unified: r[0] == "cgroup2",
		})
	}
	return list, lines.Err()
}

// unescape undoes what the kernel does to blanks in paths.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ownGroups returns the groups of a process by controller; that of version 2
// has the name "".
func ownGroups(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	groups := make(map[string]string)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, controller := range strings.Split(parts[1], ",") {
			groups[controller] = parts[2]
		}
	}
	return groups, lines.Err()
}
