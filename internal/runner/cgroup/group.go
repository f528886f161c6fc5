package cgroup

import (
	"bufio"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Group is the control group of a container. With version 1 it is a directory
// per controller, with version 2 a single one.
type Group struct {
	m     *Manager
	name  string
	dirs  map[string]string // by controller, those that enforce something
	fd    int               // version 2: the directory
	procs []int             // version 1: cgroup.procs of each directory
}

// paths returns the group's directories, each once.
func (g *Group) paths() []string {
	return slices.Compact(slices.Sorted(maps.Values(g.dirs)))
}

// limit creates the directory for a controller and sets its limits.
func (g *Group) limit(controller, dir string, settings []setting) error {
	if dir == "" {
		return errors.New("this machine has no such cgroup controller, or has not delegated it")
	}
	made := !slices.Contains(g.paths(), dir)
	if made {
		if err := g.m.make(dir); err != nil {
			return err
		}
	}
	for _, s := range settings {
		err := g.m.cfg.Kernel.Write(filepath.Join(dir, s.file), s.value)
		if err == nil || s.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if made {
			_ = g.m.unmake(dir)
		}
		return err
	}
	g.dirs[controller] = dir
	return nil
}

// Unified tells whether this is version 2 of the interface.
func (g *Group) Unified() bool { return g.m.hierarchy.unified() }

// FD is the open directory, for CLONE_INTO_CGROUP; negative with version 1.
func (g *Group) FD() int { return g.fd }

// ProcsFDs are open files; a process that writes "0" to each of them enters the
// group. There are none with version 2, where it is born into it. They stay
// the group's.
func (g *Group) ProcsFDs() ([]int, error) {
	if g.Unified() || g.procs != nil {
		return g.procs, nil
	}
	for _, dir := range g.paths() {
		path := filepath.Join(dir, "cgroup.procs")
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		g.procs = append(g.procs, fd)
	}
	return g.procs, nil
}

// Add moves a process into the group. What it has started before stays where
// it is: prefer FD and ProcsFDs.
func (g *Group) Add(pid int) error {
	for _, dir := range g.paths() {
		if err := g.m.cfg.Kernel.Write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// Path returns the directory of a controller ("memory", "cpu", "pids"), or "".
func (g *Group) Path(controller string) string { return g.dirs[controller] }

// OOMKills counts the processes that were killed for want of memory.
func (g *Group) OOMKills() (int, error) {
	dir := g.dirs[memory]
	if dir == "" {
		return 0, nil
	}
	f, err := os.Open(filepath.Join(dir, g.m.hierarchy.oomFile()))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			return strconv.Atoi(n)
		}
	}
	return 0, lines.Err()
}

// Kill kills every process in the group.
func (g *Group) Kill() error {
	paths := g.paths()
	if len(paths) == 0 {
		return nil
	}
	if g.Unified() {
		// Since Linux 5.14.
		if err := g.m.cfg.Kernel.Write(filepath.Join(paths[0], "cgroup.kill"), "1"); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for range 1000 {
		pids, err := processes(paths[0])
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("kill", err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("cgroup: processes do not end")
}

// processes lists those of a group and of the groups in it.
func processes(dir string) ([]int, error) {
	var all []int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return err
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			all = append(all, pid)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	return all, err
}

// Remove removes the group, whose processes have ended.
func (g *Group) Remove() error {
	for _, fd := range append(g.procs, g.fd) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	g.procs, g.fd = nil, -1
	var errs []error
	for _, dir := range g.paths() {
		errs = append(errs, g.m.unmake(dir))
	}
	clear(g.dirs)
	return errors.Join(errs...)
}
