package machine

import (
	"bytes"
	"os"
	"strconv"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
)

// Use returns what the processes of containers use, by their first process: its
// own and those of its descendants. Memory is what is resident. Who has left
// the tree, as a process of the machine can, is not found.
func (m *Machine) Use(first []int) map[int]eviction.Use {
	use := make(map[int]eviction.Use, len(first))
	for pid, of := range m.descendants(first) {
		u := use[of]
		memory, threads := m.size(pid)
		u.Memory += memory
		u.Processes += threads
		use[of] = u
	}
	return use
}

// descendants returns the processes that descend from the first ones, these included, and
// from which: the nearest.
func (m *Machine) descendants(first []int) map[int]int {
	entries, err := os.ReadDir(m.path("/proc"))
	if err != nil {
		return nil
	}
	parents := make(map[int]int, len(entries))
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if ppid, ok := m.parent(pid); ok {
				parents[pid] = ppid
			}
		}
	}
	root := make(map[int]int, len(parents)) // the first process above each; 0: none
	for _, pid := range first {
		root[pid] = pid
	}
	of := make(map[int]int, len(first))
	for pid := range parents {
		if first := find(pid, parents, root); first != 0 {
			of[pid] = first
		}
	}
	return of
}

// find returns the root that pid descends from, and remembers it.
func find(pid int, parents, root map[int]int) int {
	if of, known := root[pid]; known {
		return of
	}
	root[pid] = 0 // the tree was read while it changed: it may have a loop
	if ppid := parents[pid]; ppid > 0 {
		root[pid] = find(ppid, parents, root)
	}
	return root[pid]
}

// parent reads who the parent of a process is. Its name, which it chooses itself,
// stands in brackets and may contain any.
func (m *Machine) parent(pid int) (ppid int, ok bool) {
	fields := m.stat(pid)
	if len(fields) < 2 {
		return 0, false
	}
	ppid, err := strconv.Atoi(string(fields[1]))
	return ppid, err == nil
}

// size reads how much memory a process has, and how many threads.
func (m *Machine) size(pid int) (memory, threads int64) {
	const numThreads, rss = 17, 21 // behind the name; see proc_pid_stat(5)
	fields := m.stat(pid)
	if len(fields) <= rss {
		return 0, 0
	}
	threads, _ = strconv.ParseInt(string(fields[numThreads]), 10, 64)
	pages, _ := strconv.ParseInt(string(fields[rss]), 10, 64)
	return pages * int64(os.Getpagesize()), threads
}

// stat returns the fields of a process's stat behind its name.
func (m *Machine) stat(pid int) [][]byte {
	data, err := os.ReadFile(m.path("/proc/" + strconv.Itoa(pid) + "/stat"))
	if err != nil {
		return nil
	}
	return bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
}
