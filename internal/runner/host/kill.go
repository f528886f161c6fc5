package host

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// processTable finds and kills processes of this machine.
type processTable struct {
	sessions sync.Map // leader's process id (int) → container's ID, of those that run
	loadavg  *os.File // /proc/loadavg, kept open
}

// Process ids are given out in order. The descendants of a container that ran
// for a moment have ids just above its own, and asking for each of those is
// a hundred times cheaper than reading /proc.
const (
	nearAge   = time.Second
	nearRange = 2000
)

// killContainer kills what is left of a container whose first process has
// just ended and is still a zombie.
func (t *processTable) killContainer(p *process) {
	pid := p.child.PID()
	candidates := t.all
	if time.Since(p.started) < nearAge {
		if last := t.lastPID(); last >= pid && last-pid <= nearRange {
			candidates = func() []int { return span(pid+1, t.lastPID()) }
		}
	}
	t.kill(candidates, func(other int) bool {
		sid, err := unix.Getsid(other)
		if err != nil || sid == 0 || other == pid { // gone, or a kernel thread
			return false
		}
		if id, ok := t.sessions.Load(sid); ok {
			return id == p.id
		}
		return marker(other) == p.launcher.mark(p.id)
	})
}

// kill kills every candidate that belongs, and those that it started
// meanwhile.
func (t *processTable) kill(candidates func() []int, belongs func(pid int) bool) {
	killed := make(map[int]bool)
	for again := true; again; {
		again = false
		for _, pid := range candidates() {
			if killed[pid] || !belongs(pid) {
				continue
			}
			// The pidfd is asked again: the id may have become another's.
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			if belongs(pid) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
				killed[pid], again = true, true
			}
			unix.Close(fd)
		}
	}
}

// all returns the ids of all processes.
func (*processTable) all() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func span(first, last int) []int {
	pids := make([]int, 0, max(last-first+1, 0))
	for pid := first; pid <= last; pid++ {
		pids = append(pids, pid)
	}
	return pids
}

// lastPID is the process id that was given out last; 0 if that cannot be known.
func (t *processTable) lastPID() int {
	var buf [128]byte
	n, err := t.loadavg.ReadAt(buf[:], 0)
	if err != nil && err != io.EOF {
		return 0
	}
	fields := bytes.Fields(buf[:n])
	if len(fields) < 5 {
		return 0
	}
	pid, err := strconv.Atoi(string(fields[4]))
	if err != nil {
		return 0
	}
	return pid
}

// marker tells the container that a process was started for, or is "".
func marker(pid int) string {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if id, ok := bytes.CutPrefix(kv, []byte(markerKey+"=")); ok {
			return string(id)
		}
	}
	return ""
}
