package cgroup

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcessLimit is what RLIMIT_NPROC of containers' processes should be where no
// control group limits how many there are: so much that when they have used it
// up, the supervisor and the engine can still start processes and threads. It is
// 0 where the limit should be left alone.
//
// The kernel counts an ordinary user's processes and threads, since Linux 5.14
// those of a user namespace by themselves, and compares the number with the
// limit of who wants one more. So a lower limit for containers than for the
// supervisor, which is in the same namespace, is a reserve for the supervisor: it
// bounds all containers together, not each.
//
//   - Class host as an ordinary user: it holds; the user's other processes count too.
//   - A user namespace with a single id: it holds. A namespace that a container is
//     given inside counts on its own and, where it was made, for the limit that its
//     maker had: it must be set before.
//   - A user namespace with subordinate ids: every id of it counts for itself. One
//     container that does not change its user is bounded; one that may
//     (CAP_SETUID) gets as much again with each id, up to what the supervisor
//     has. It is a fence against accidents there, none against intent.
//   - root, but in a user namespace: the kernel does not look at the limit.
//
// It is never more than this process's own limit. It is computed anew with each
// call and reads all of /proc: ask once, when no container runs.
func (m *Manager) ProcessLimit() uint64 {
	if m.discover() && m.layout.limit[pids] != nil {
		return 0
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &own); err != nil {
		return 0
	}
	inNamespace := !m.ownsMachine()
	if os.Geteuid() == 0 && !inNamespace {
		return 0
	}
	user, ours := m.threads()
	counted := user
	if inNamespace && countsByNamespace() {
		counted = ours
	}
	return min(processLimit(counted, m.room(own.Cur, user)), own.Cur)
}

// processLimit adds what may still be started, less a reserve, to what is there.
func processLimit(counted, room int64) uint64 {
	if room <= 0 {
		return 0
	}
	return uint64(counted + room - reserve(room))
}

// room is how many more processes and threads the user can have at the most.
func (m *Manager) room(limit uint64, user int64) int64 {
	room := int64(math.MaxInt64)
	within := func(most, used int64) {
		if most > 0 {
			room = min(room, most-used)
		}
	}
	if limit < math.MaxInt64 {
		within(int64(limit), user)
	}
	all := m.allThreads()
	within(readNumber(filepath.Join(m.cfg.Proc, "../sys/kernel/pid_max")), all)
	within(readNumber(filepath.Join(m.cfg.Proc, "../sys/kernel/threads-max")), all)
	for _, g := range AllAround(m.cfg.Proc, pids) {
		within(readNumber(filepath.Join(g.Dir, "pids.max")), readNumber(filepath.Join(g.Dir, "pids.current")))
	}
	if room == math.MaxInt64 {
		return 0
	}
	return room
}

// ownsMachine tells whether this process is in the machine's user namespace.
func (m *Manager) ownsMachine() bool {
	text, err := os.ReadFile(filepath.Join(m.cfg.Proc, "uid_map"))
	fields := strings.Fields(string(text))
	return err != nil || len(fields) == 3 && fields[0] == "0" && fields[1] == "0" && fields[2] == "4294967295"
}

// countsByNamespace: Linux 5.14 and later.
func countsByNamespace() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 14
}

// threads counts those of this process's user, and this process's own.
func (m *Manager) threads() (user, ours int64) {
	_, ours = threadsOf(filepath.Join(m.cfg.Proc, "status"))
	return max(ours, threadsIn(filepath.Join(m.cfg.Proc, ".."), os.Getuid())), ours
}

// ThreadsOf counts the processes and threads of a user, as far as they can be seen.
func ThreadsOf(uid int) int64 { return threadsIn("/proc", uid) }

func threadsIn(proc string, uid int) (all int64) {
	user := strconv.Itoa(uid)
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if owner, n := threadsOf(filepath.Join(proc, e.Name(), "status")); owner == user {
			all += n
		}
	}
	return all
}

// threadsOf reads a status file of a process.
func threadsOf(path string) (uid string, n int64) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(value)
		switch {
		case len(fields) == 0:
		case key == "Uid":
			uid = fields[0]
		case key == "Threads":
			n, _ = strconv.ParseInt(fields[0], 10, 64)
		}
	}
	return uid, n
}

// allThreads counts those of the machine.
func (m *Manager) allThreads() int64 {
	text, err := os.ReadFile(filepath.Join(m.cfg.Proc, "../loadavg"))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 4 {
		return 0
	}
	_, all, _ := strings.Cut(fields[3], "/")
	n, _ := strconv.ParseInt(all, 10, 64)
	return n
}
