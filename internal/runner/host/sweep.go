package host

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sweepDelay is how long an orphan may go on after the last container that can
// have started it. Sweeping once for all that ended meanwhile keeps it off the
// hot path.
const sweepDelay = 100 * time.Millisecond

// sweeper ends orphans: processes that have got rid of everything by which their
// container would know them, and were handed to the supervisor, which is
// a subreaper, when their parents ended. (They are its children then, and so
// are no others but those it has started itself.)
//
// Whose such a process was cannot be seen, but whose it was not: it is younger
// than the container that it comes from. So it is ended when every container
// that runs is younger than it.
type sweeper struct {
	idle     bool         // this process gets no orphans
	starting atomic.Int64 // starts in flight: a child that is not in sessions yet
	due      atomic.Bool
}

// isSubreaper tells whether orphans are handed to this process at all.
func isSubreaper() bool {
	var is int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&is)), 0, 0, 0)
	return err == nil && is != 0
}

// sweepSoon has orphans looked for in a moment.
func (l *Launcher) sweepSoon() {
	if l.sweeper.idle {
		return
	}
	if l.sweeper.due.CompareAndSwap(false, true) {
		time.AfterFunc(sweepDelay, func() {
			l.sweeper.due.Store(false)
			l.sweep()
		})
	}
}

func (l *Launcher) sweep() {
	unsure := l.sweeper.starting.Load() > 0
	own := os.Getpid()
	killed := l.ps.kill(ownChildren, func(pid int) answer {
		// The order matters: a start that was in flight is in sessions afterwards.
		if l.sweeper.starting.Load() > 0 {
			return no
		}
		if _, ok := l.ps.sessions.Load(pid); ok {
			return no
		}
		state, parent, born := stat(pid)
		if parent != own || state == 'Z' || state == 'X' || !l.ps.olderThanAll(pid, born) {
			return no
		}
		return yes
	})
	if unsure || killed { // and what it had started becomes an orphan only when it has gone
		l.sweepSoon()
	}
}

// olderThanAll tells whether a process was there before each that runs.
//
// The kernel counts in hundredths of a second; within one, process ids are given
// out in order, and far fewer than there are.
func (t *processTable) olderThanAll(pid int, born uint64) bool {
	older := true
	t.sessions.Range(func(key, _ any) bool {
		other := key.(int)
		state, _, theirs := stat(other)
		before := pid < other && other-pid <= nearRange
		older = state == 0 || born < theirs || born == theirs && before
		return older
	})
	return older
}

// ownChildren lists the children of this process. Kernels that do not list them
// (CONFIG_PROC_CHILDREN) have every process looked at.
func ownChildren() []int {
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(files) == 0 {
		return (*processTable)(nil).all()
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
