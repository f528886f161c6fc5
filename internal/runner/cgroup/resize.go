package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// BelowUsageError says that a container uses more memory than it shall be allowed.
type BelowUsageError struct{ Limit, Usage int64 }

func (e *BelowUsageError) Error() string {
	return fmt.Sprintf("memory limit (%d) below current usage (%d)", e.Limit, e.Usage)
}

// Resize changes what the group enforces. ignored says why something of it is not enforced. A
// group that had no part in a controller's tree enters it, with its processes. A memory limit
// that is below what is used is a *BelowUsageError: version 2 of the interface would kill for it.
func (g *Group) Resize(r runner.Resources) (ignored string, err error) {
	g.resizing.Lock()
	defer g.resizing.Unlock()
	if err := g.roomFor(r.MemoryLimit); err != nil {
		return "", err
	}
	next := &Group{m: g.m, pod: g.pod, name: g.name}
	g.mu.Lock()
	if g.ended || g.removed {
		g.mu.Unlock()
		return "", os.ErrProcessDone
	}
	next.dirs, next.limits = maps.Clone(g.dirs), maps.Clone(g.limits)
	g.mu.Unlock()
	var missing []string
	for _, controller := range limiting {
		switch e := next.limit(controller, r); {
		case errors.Is(e, unix.EBUSY): // version 1: what is used could not be had back
			return "", &BelowUsageError{r.MemoryLimit, g.memoryUsage()}
		case e != nil:
			missing = append(missing, fmt.Sprintf("%s: %v", controller, e))
		}
	}
	if err := g.settle(next); err != nil {
		return "", err
	}
	return strings.Join(missing, "; "), nil
}

// ResizeContainer does that for the container of a name, in the words of a kubelet. Of a nil
// group, which is what a machine without groups gives, nothing is enforced.
func (g *Group) ResizeContainer(name string, r runner.Resources) (ignored string, err error) {
	if g == nil {
		return "this machine has no control groups for containers", nil
	}
	ignored, err = g.Resize(r)
	if below := (*BelowUsageError)(nil); errors.As(err, &below) {
		err = fmt.Errorf("cannot decrease memory limits: attempting to set container %q %w", name, below)
	}
	return ignored, err
}

// settle takes over the directories that next has made, and moves the processes there.
func (g *Group) settle(next *Group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var fresh []*tree
	for t := range next.dirs {
		if g.dirs[t] == "" {
			fresh = append(fresh, t)
		}
	}
	if g.ended || g.removed {
		for _, t := range fresh {
			_ = t.remove(next.dirs[t])
		}
		return os.ErrProcessDone
	}
	g.dirs, g.limits = next.dirs, next.limits
	for _, t := range fresh {
		if g.procs != nil { // who is added later enters it, too
			fd, err := openFile(filepath.Join(g.dirs[t], "tasks"))
			if err != nil {
				return err
			}
			g.procs = append(g.procs, fd)
		}
		if err := g.moveInto(g.dirs[t]); err != nil {
			return err
		}
	}
	return nil
}

// moveInto moves the group's processes into a directory of another tree, those included that
// they start meanwhile.
func (g *Group) moveInto(dir string) error {
	moved := map[int]bool{}
	for range movePasses { // who is moved has children there: only those of the others are left
		all, err := processes(g.dirs[g.m.layout.track])
		if err != nil {
			return err
		}
		more := false
		for _, pid := range all {
			if moved[pid] {
				continue
			}
			more, moved[pid] = true, true
			err := g.m.cfg.Kernel.Write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if !more {
			return nil
		}
	}
	return fmt.Errorf("processes keep appearing outside of %s", dir)
}

const movePasses = 100

// roomFor returns an error if the group uses as much memory as the limit, which is lower
// than the present one.
func (g *Group) roomFor(limit int64) error {
	if limit <= 0 {
		return nil
	}
	if now := g.memoryLimit(); now > 0 && limit >= now {
		return nil
	}
	if usage := g.memoryUsage(); usage >= limit {
		return &BelowUsageError{limit, usage}
	}
	return nil
}

// memoryLimit is the present one, 0 if there is none.
func (g *Group) memoryLimit() int64 { return g.readMemory("memory.limit_in_bytes", "memory.max") }

// memoryUsage is what the group uses, 0 if nobody counts it.
func (g *Group) memoryUsage() int64 { return g.readMemory("memory.usage_in_bytes", "memory.current") }

func (g *Group) readMemory(v1, v2 string) int64 {
	t := g.m.layout.limit[memory]
	if t == nil {
		return 0
	}
	g.mu.Lock()
	dir := g.dirs[t]
	g.mu.Unlock()
	file := v1
	if t.unified {
		file = v2
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if dir == "" || errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64) // "max" is no number
	return n
}
