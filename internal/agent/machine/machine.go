// Package machine reads from the kernel what a node needs to know about what can
// run out: memory, disk, processes, and who uses them. It decides nothing.
//
// Memory and processes are bounded by the machine and by every control group
// above this process, of both versions; what counts is where least is left.
package machine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
)

// Machine is this machine, or the container that this process is in.
type Machine struct {
	// Dir is where pods' files are, ImageDir where images are.
	Dir, ImageDir string
	// Root is what stands for "/" in front of /proc and /sys; "" but in tests.
	Root string
}

// Observe returns what is left. What cannot be read is missing; the error says
// why, beside what is there.
func (m *Machine) Observe() (eviction.Observations, error) {
	seen := eviction.Observations{}
	errs := []error{
		m.disk(seen, m.Dir, eviction.NodefsAvailable, eviction.NodefsInodesFree),
		m.disk(seen, m.ImageDir, eviction.ImagefsAvailable, eviction.ImagefsInodesFree),
	}
	memory, err := m.memory()
	errs = append(errs, m.least(seen, eviction.MemoryAvailable, memory, err, "memory", memoryFiles))
	processes, err := m.processes()
	errs = append(errs, m.least(seen, eviction.PIDAvailable, processes, err, "pids", pidsFiles))
	return seen, errors.Join(errs...)
}

func (m *Machine) disk(seen eviction.Observations, dir string, bytes, inodes eviction.Signal) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	seen[bytes] = eviction.Observation{Available: int64(fs.Bavail) * fs.Bsize, Capacity: int64(fs.Blocks) * fs.Bsize}
	if fs.Files > 0 { // btrfs, for one, has no number of inodes
		seen[inodes] = eviction.Observation{Available: int64(fs.Ffree), Capacity: int64(fs.Files)}
	}
	return nil
}

// memory is what the machine has.
func (m *Machine) memory() (o eviction.Observation, err error) {
	data, err := os.ReadFile(m.path("/proc/meminfo"))
	if err != nil {
		return o, err
	}
	for line := range bytes.Lines(data) {
		name, rest, _ := strings.Cut(string(line), ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "MemTotal":
			o.Capacity = kb << 10
		case "MemAvailable":
			o.Available = kb << 10
		}
	}
	if o.Capacity == 0 {
		return o, errors.New("/proc/meminfo says nothing of MemTotal")
	}
	return o, nil
}

// processes is how many the machine can have, threads counted.
func (m *Machine) processes() (o eviction.Observation, err error) {
	for _, path := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		n, err := readNumber(m.path(path))
		if err != nil {
			return o, err
		}
		if o.Capacity == 0 || n < o.Capacity {
			o.Capacity = n
		}
	}
	data, err := os.ReadFile(m.path("/proc/loadavg"))
	if err != nil {
		return o, err
	}
	if fields := strings.Fields(string(data)); len(fields) > 3 {
		_, total, _ := strings.Cut(fields[3], "/")
		n, err := strconv.ParseInt(total, 10, 64)
		o.Available = o.Capacity - n
		return o, err
	}
	return o, fmt.Errorf("/proc/loadavg: %q", data)
}

// files are those in which a controller says what a group may have and has.
type files struct {
	limit, usage []string // by version of control groups: 1, 2
	// spare is what of the usage can be had back at once: a line of memory.stat.
	spare []string
}

var (
	memoryFiles = files{
		limit: []string{"memory.limit_in_bytes", "memory.max"},
		usage: []string{"memory.usage_in_bytes", "memory.current"},
		spare: []string{"total_inactive_file", "inactive_file"},
	}
	pidsFiles = files{limit: []string{"pids.max", "pids.max"}, usage: []string{"pids.current", "pids.current"}}
)

// least notes under s what is left where least is: on the whole machine, or in a
// control group above this process.
func (m *Machine) least(seen eviction.Observations, s eviction.Signal, whole eviction.Observation, err error, controller string, f files) error {
	if err != nil {
		return err
	}
	for _, g := range cgroup.AllAround(m.path("/proc/self"), controller) {
		dir, v := m.path(g.Dir), g.Version-1
		limit, err := readNumber(filepath.Join(dir, f.limit[v]))
		if err != nil || limit >= whole.Capacity { // "max", or no such group
			continue
		}
		used, err := readNumber(filepath.Join(dir, f.usage[v]))
		if err != nil {
			continue
		}
		if f.spare != nil {
			used -= readStat(filepath.Join(dir, "memory.stat"), f.spare[v])
		}
		if left := limit - used; left < whole.Available {
			whole = eviction.Observation{Available: max(left, 0), Capacity: limit}
		}
	}
	seen[s] = whole
	return nil
}

func (m *Machine) path(p string) string { return m.Root + p }

func readNumber(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// readStat returns a line of a memory.stat, 0 if there is none.
func readStat(path, name string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}
