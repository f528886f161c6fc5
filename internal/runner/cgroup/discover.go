package cgroup

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// discover finds out which interface this machine has.
func discover(cfg Config) (hierarchy, error) {
	mounts, err := cgroupMounts(filepath.Join(cfg.Proc, "mountinfo"))
	if err != nil {
		return nil, err
	}
	own, err := ownGroups(filepath.Join(cfg.Proc, "cgroup"))
	if err != nil {
		return nil, err
	}
	v1 := &version1{cfg: cfg, base: make(map[string]string)}
	for _, controller := range []string{memory, cpu, pids} {
		for _, m := range mounts {
			if !m.unified && slices.Contains(m.options, controller) {
				v1.base[controller] = m.path(own[controller])
			}
		}
	}
	if len(v1.base) > 0 {
		return v1, v1.usable()
	}
	for _, m := range mounts {
		if m.unified {
			return newVersion2(cfg, m, own[""])
		}
	}
	return nil, errors.New("no cgroup file system is mounted")
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
