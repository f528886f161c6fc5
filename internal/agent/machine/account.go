package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/internal/runner/cgroup"
)

// Usage is what was used of the processors so far, and is used of the memory: without what of
// it the kernel could have back at once (the "working set").
type Usage struct {
	CPU    time.Duration
	Memory int64
}

// Container is a container that is measured.
type Container struct {
	ID  string
	PID int // its first process
}

// tick is in what the kernel counts in /proc: USER_HZ, which is 100 on every Linux.
const tick = time.Second / 100

// Account measures the whole machine, and containers, by their IDs. A container that has a
// control group is measured by that; of another, or where no group counts what is asked, the
// processes that descend from the first one are added up, with those that have ended and that
// their parents have waited for. One that has ended meanwhile is missing.
func (m *Machine) Account(list []Container) (whole Usage, of map[string]Usage, err error) {
	memory, err := m.memory()
	busy, errCPU := m.busy()
	whole = Usage{CPU: busy, Memory: memory.Capacity - memory.Available}
	of = make(map[string]Usage, len(list))
	mounts := cgroup.Seen(m.path("/proc/self"))
	var rest []Container
	for _, c := range list {
		u, complete := m.byGroup(mounts, c)
		if of[c.ID] = u; !complete {
			rest = append(rest, c)
		}
	}
	m.byProcesses(rest, of)
	return whole, of, errors.Join(err, errCPU)
}

// busy is how long the machine's processors have worked.
func (m *Machine) busy() (time.Duration, error) {
	data, err := os.ReadFile(m.path("/proc/stat"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	const idle, waiting, counted = 4, 5, 8 // see proc_stat(5); what others than this machine took comes behind
	if len(fields) < counted || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat: %q", line)
	}
	var ticks int64
	for i, field := range fields[:counted] {
		if i == 0 || i == idle || i == waiting {
			continue
		}
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// byGroup measures a container by the control groups that have its name. What they do not
// count is negative, and the measurement not complete.
func (m *Machine) byGroup(mounts cgroup.Mounts, c Container) (u Usage, complete bool) {
	proc := m.path("/proc/" + strconv.Itoa(c.PID))
	u = Usage{CPU: -1, Memory: -1}
	if g, ok := named(mounts.Around(proc, "cpuacct"), c.ID); ok && g.Version == 1 {
		if n, err := readNumber(filepath.Join(m.path(g.Dir), "cpuacct.usage")); err == nil {
			u.CPU = time.Duration(n)
		}
	} else if ok {
		if n := readStat(filepath.Join(m.path(g.Dir), "cpu.stat"), "usage_usec"); n > 0 {
			u.CPU = time.Duration(n) * time.Microsecond
		}
	}
	if g, ok := named(mounts.Around(proc, "memory"), c.ID); ok {
		dir, v := m.path(g.Dir), g.Version-1
		if n, err := readNumber(filepath.Join(dir, memoryFiles.usage[v])); err == nil {
			u.Memory = max(n-readStat(filepath.Join(dir, "memory.stat"), memoryFiles.spare[v]), 0)
		}
	}
	return u, u.CPU >= 0 && u.Memory >= 0
}

// named returns the group of a name among those that a process is in.
func named(list []cgroup.Around, name string) (cgroup.Around, bool) {
	for _, g := range list {
		if filepath.Base(g.Dir) == name {
			return g, true
		}
	}
	return cgroup.Around{}, false
}

// byProcesses adds up what is not measured yet of containers. One without processes is taken out.
func (m *Machine) byProcesses(list []Container, of map[string]Usage) {
	if len(list) == 0 {
		return
	}
	first := make([]int, len(list))
	for i, c := range list {
		first[i] = c.PID
	}
	sums := map[int]Usage{}
	for pid, root := range m.descendants(first) {
		cpu, memory := m.spent(pid)
		sum := sums[root]
		sums[root] = Usage{CPU: sum.CPU + cpu, Memory: sum.Memory + memory}
	}
	for _, c := range list {
		sum, alive := sums[c.PID]
		if !alive {
			delete(of, c.ID)
			continue
		}
		u := of[c.ID]
		if u.CPU < 0 {
			u.CPU = sum.CPU
		}
		if u.Memory < 0 {
			u.Memory = sum.Memory
		}
		of[c.ID] = u
	}
}

// spent reads what a process has used of the processors, itself and by the children that it
// has waited for, and how much memory it has.
func (m *Machine) spent(pid int) (cpu time.Duration, memory int64) {
	const utime, cstime, rss = 11, 14, 21 // behind the name; see proc_pid_stat(5)
	fields := m.stat(pid)
	if len(fields) <= rss {
		return 0, 0
	}
	for _, field := range fields[utime : cstime+1] {
		n, _ := strconv.ParseInt(string(field), 10, 64)
		cpu += time.Duration(n) * tick
	}
	pages, _ := strconv.ParseInt(string(fields[rss]), 10, 64)
	return cpu, pages * int64(os.Getpagesize())
}
