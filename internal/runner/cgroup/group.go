package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// Group is the control group of a container: a directory in each tree that it
// needs.
type Group struct {
	m    *Manager
	pod  *pod // nil once it has been left
	name string

	resizing sync.Mutex // held by Resize; it comes before mu

	// Resize replaces them; what is made or removed outside of it has the group for itself.
	mu           sync.Mutex
	dirs         map[*tree]string
	limits       map[string]string // by controller, those directories that enforce something
	fd           int               // version 2: the directory
	unifiedProcs int               // version 2: its cgroup.procs
	procs        []int             // version 1: tasks of each directory
	holders      int
	ended        bool // Kill has been called
	removed      bool
}

// setting is a value for a file of a group. An optional one may be missing.
type setting struct {
	file, value string
	optional    bool
}

// make makes the group's directories and sets its limits.
func (g *Group) make(c Container) (ignored string, err error) {
	asked := c.Resources != (runner.Resources{})
	track := g.m.layout.track
	if _, err := g.enter(track); err != nil {
		if asked {
			ignored = err.Error()
		}
		return ignored, fmt.Errorf("a container has no cgroup: %w", err)
	}
	if track.unified {
		g.fd, err = unix.Open(g.dirs[track], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			g.fd = -1
			return ignored, &os.PathError{Op: "open", Path: g.dirs[track], Err: err}
		}
	}
	sized := c.Resources.CPUShares > 0 || c.Resources.MemoryLimit > 0
	if t := g.m.layout.limit[memory]; sized && t != nil && !t.unified {
		// It may get a limit while it runs, which holds for what it has taken before, too.
		if _, e := g.enter(t); e != nil {
			err = fmt.Errorf("a container's memory is not counted: %w", e)
		}
	}
	if e := g.pod.limitPids(c.PodPids); e != nil {
		err = fmt.Errorf("the number of a pod's processes is not limited: %w", e)
	}
	var missing []string
	for _, controller := range limiting {
		if e := g.limit(controller, c.Resources); e != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", controller, e))
		}
	}
	return strings.Join(missing, "; "), err
}

// enter makes the group's directory in a tree, unless it is there.
func (g *Group) enter(t *tree) (made bool, err error) {
	if g.dirs[t] != "" {
		return false, nil
	}
	dir, err := g.pod.makeGroup(t, g.name)
	if err != nil {
		return false, err
	}
	g.dirs[t] = dir
	return true, nil
}

// limit sets what a controller enforces.
func (g *Group) limit(controller string, r runner.Resources) error {
	t := g.m.layout.limit[controller]
	settings := limits(t, controller, r)
	if len(settings) == 0 {
		return nil
	}
	if t == nil {
		return errors.New(noController)
	}
	made, err := g.enter(t)
	if err != nil {
		return err
	}
	if !made {
		settings = inOrder(g.dirs[t], settings)
	}
	err = g.pod.set(t, controller, g.dirs[t], settings)
	if err == nil && controller == cpu {
		err = g.pod.share(t, g.name, r.CPUShares)
	}
	if err != nil {
		if made {
			_ = t.remove(g.dirs[t])
			delete(g.dirs, t)
		}
		return err
	}
	g.limits[controller] = g.dirs[t]
	return nil
}

// paths returns the group's directories, that in which its processes are looked
// for first.
func (g *Group) paths() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var paths []string
	for _, t := range g.m.layout.trees {
		if dir := g.dirs[t]; dir != "" {
			paths = append(paths, dir)
		}
	}
	return paths
}

// Views returns the directories of version 1 in which a process finds what limits the group, by
// controller; none where version 2 has all, or nothing has been asked for.
func (g *Group) Views() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	views := make(map[string]string)
	for t, dir := range g.dirs {
		if t.unified {
			continue
		}
		for _, controller := range t.controllers {
			views[controller] = dir
		}
	}
	if views[cpu] == "" && views[memory] == "" {
		return nil
	}
	return views
}

// Unified tells whether the group has a directory of version 2 of the interface.
func (g *Group) Unified() bool { return g.m.layout.track.unified }

// FD is that open directory, for CLONE_INTO_CGROUP; negative without.
//
// A process that shares this one's memory must not be born into it: when the
// group's memory runs out, the kernel kills all that share memory with whom it
// chose.
func (g *Group) FD() int { return g.fd }

// ProcsFDs are open files; a process of one thread that writes "0" to each of
// them enters the group in every tree of version 1. They stay the group's. The
// caller holds the group (see Hold) until nobody uses them any more, unless
// nobody else can remove it.
//
// They are the files named tasks: a process that writes to cgroup.procs instead
// waits for every processor of the machine to come to rest, some ten
// milliseconds (measured: 11 ms against 0.05).
func (g *Group) ProcsFDs() ([]int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.procs != nil {
		return g.procs, nil
	}
	for _, t := range g.m.layout.trees {
		dir := g.dirs[t]
		if dir == "" || t.unified {
			continue
		}
		fd, err := openFile(filepath.Join(dir, "tasks"))
		if err != nil {
			return nil, err
		}
		g.procs = append(g.procs, fd)
	}
	return g.procs, nil
}

// UnifiedProcsFD is an open file; a process that writes "0" to it enters the
// group's directory of version 2, if it has not been born into it. It is
// negative when there is none, and the group's as those of ProcsFDs are.
func (g *Group) UnifiedProcsFD() (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unifiedProcs < 0 && g.Unified() {
		fd, err := openFile(filepath.Join(g.dirs[g.m.layout.track], "cgroup.procs"))
		if err != nil {
			return -1, err
		}
		g.unifiedProcs = fd
	}
	return g.unifiedProcs, nil
}

func openFile(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// Hold keeps the group's descriptors open until release is called, for a process
// that is being added to it. It is not ok once the group's processes have been
// killed; one that was being added at that moment is killed by release. A nil
// group can be held.
func (g *Group) Hold() (release func(), ok bool) {
	if g == nil {
		return func() {}, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || g.removed {
		return nil, false
	}
	g.holders++
	return g.release, true
}

func (g *Group) release() {
	g.mu.Lock()
	g.holders--
	ended, removed := g.ended, g.removed
	g.closeLocked()
	g.mu.Unlock()
	if ended && !removed {
		_ = g.kill()
	}
}

// closeLocked closes what nobody needs any more.
func (g *Group) closeLocked() {
	if !g.removed || g.holders > 0 {
		return
	}
	for _, fd := range append(g.procs, g.fd, g.unifiedProcs) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	g.procs, g.fd, g.unifiedProcs = nil, -1, -1
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

// Path returns the directory in which a controller ("memory", "cpu", "pids")
// enforces a limit of this container, or "".
func (g *Group) Path(controller string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limits[controller]
}

// OOMKills counts the processes that were killed for want of memory.
func (g *Group) OOMKills() (int, error) {
	dir := g.Path(memory)
	if dir == "" {
		return 0, nil
	}
	file := "memory.oom_control"
	if g.m.layout.limit[memory].unified {
		file = "memory.events"
	}
	f, err := os.Open(filepath.Join(dir, file))
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

// Kill kills every process in the group and returns when none is left but
// zombies. No process can be added any more; see Hold.
func (g *Group) Kill() error {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	return g.kill()
}

func (g *Group) kill() error {
	t := g.m.layout.track
	g.mu.Lock()
	dir := g.dirs[t]
	g.mu.Unlock()
	if dir == "" {
		return nil
	}
	return t.empty(dir)
}

// Remove removes the group; whatever is still in it is killed. It may be called
// again when it has failed.
func (g *Group) Remove() error {
	g.resizing.Lock()
	defer g.resizing.Unlock()
	g.mu.Lock()
	g.ended, g.removed = true, true
	g.closeLocked()
	g.mu.Unlock()
	var errs []error
	for _, t := range g.m.layout.trees {
		dir := g.dirs[t]
		if dir == "" {
			continue
		}
		if err := t.remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(g.dirs, t)
	}
	if len(g.dirs) == 0 && g.pod != nil {
		errs = append(errs, g.m.leave(g.pod, g.name))
		g.pod = nil
	}
	return errors.Join(errs...)
}
