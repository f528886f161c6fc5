package host

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// processTable finds and kills processes of this machine.
type processTable struct {
	tags     reap.Tags
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

// answer is whether a process belongs to a container.
type answer int

const (
	no answer = iota
	yes
	// unclear: the process is executing a program at this moment, and has no
	// environment yet. Programs that were given an empty one look the same.
	unclear
)

// An execve takes a fraction of the pause; then it is no.
const (
	unclearPause = time.Millisecond
	unclearTries = 10
)

// killContainer kills what is left of a container whose first process has
// just ended and is still a zombie.
func (t *processTable) killContainer(p *process) {
	pid, mark := p.child.PID(), p.launcher.mark(p.id)
	tag := t.tags.Of(mark)
	candidates := t.all
	if time.Since(p.started) < nearAge {
		if last := t.lastPID(); last >= pid && last-pid <= nearRange {
			candidates = func() []int { return span(pid+1, t.lastPID()) }
		}
	}
	born := sync.OnceValue(func() uint64 { _, _, born := stat(pid); return born })
	t.kill(candidates, func(other int) answer {
		sid, err := unix.Getsid(other)
		if err != nil || sid == 0 || other == pid { // gone, or a kernel thread
			return no
		}
		if id, ok := t.sessions.Load(sid); ok {
			if id == p.id {
				return yes
			}
			return no
		}
		switch t.tags.Carried(other) {
		case 0: // it has changed it, or is none of ours
			return isMarked(other, born, func(m string) bool { return m == mark })
		case tag:
			return yes
		}
		return no
	})
}

// isMarked asks a process for its mark. One that is older than born is not
// waited for.
func isMarked(pid int, born func() uint64, is func(mark string) bool) answer {
	mark, ok := marker(pid)
	switch {
	case ok && is(mark):
		return yes
	case ok:
		return no
	}
	if state, _, since := stat(pid); state == 0 || state == 'Z' || state == 'X' || since < born() {
		return no
	}
	return unclear
}

// kill kills every candidate that belongs, and those that it started
// meanwhile. It tells whether there were any.
func (t *processTable) kill(candidates func() []int, belongs func(pid int) answer) (any bool) {
	killed := make(map[int]bool)
	for tries := 0; ; {
		again, wait := false, false
		for _, pid := range candidates() {
			if killed[pid] {
				continue
			}
			switch killOne(pid, belongs) {
			case yes:
				killed[pid], again = true, true
			case unclear:
				wait = true
			}
		}
		switch {
		case again:
		case wait && tries < unclearTries:
			tries++
			time.Sleep(unclearPause)
		default:
			return len(killed) > 0
		}
	}
}

// killOne kills a process if it belongs. The pidfd is asked again: the id may
// have become another's.
func killOne(pid int, belongs func(pid int) answer) answer {
	if a := belongs(pid); a != yes {
		return a
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return no
	}
	defer unix.Close(fd)
	if a := belongs(pid); a != yes {
		return a
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return no
	}
	return yes
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

// marker tells the container that a process was started for, "" if for none;
// ok is false when it has no environment.
func marker(pid int) (mark string, ok bool) {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return "", true // it is gone, or another user's
	}
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if mark, ok := bytes.CutPrefix(kv, []byte(markerKey+"=")); ok {
			return string(mark), true
		}
	}
	return "", len(env) > 0
}

// stat returns a process's state letter, 0 if it is gone, its parent, and when it
// was started, in ticks since the machine was.
func stat(pid int) (state byte, parent int, born uint64) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, 0
	}
	// The name, in brackets, may contain anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	born, _ = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], parent, born
}
