package reap

import (
	"bufio"
	"hash/fnv"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LimitOfLocks is RLIMIT_LOCKS, a limit that every process has and hands down, through fork and
// execve, changes of user, session and namespace, and that no kernel since 2.4.25
// looks at. It is where a child's tag is kept: see Tags.
const LimitOfLocks = 10

// Tags tell all that a child has started from everything else on the machine,
// also what has left the child's session and cleared its environment, and
// although the child has long ended: they are carried as a resource limit. Only a
// process that changes that limit on purpose loses its tag.
//
// A tag is computed from a text, so that it is found again after a restart.
type Tags struct {
	own uint64 // what this process carries itself: no tag of a child's
}

// leastTag is above every limit that somebody might have set for real.
const leastTag = 1 << 40

// OwnTags returns the tags of this process's children.
func OwnTags() Tags {
	var limit unix.Rlimit
	if err := unix.Prlimit(0, LimitOfLocks, nil, &limit); err != nil {
		return Tags{}
	}
	return Tags{own: limit.Max}
}

// Of returns the tag that belongs to a text, to be set as both values of the
// limit; 0 when this process's own limit leaves no room for tags.
func (t Tags) Of(text string) uint64 {
	if t.own <= 2*leastTag {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return leastTag + h.Sum64()%(t.own-leastTag)
}

// Carried returns the tag of a process, 0 if it has none or is gone.
func (t Tags) Carried(pid int) uint64 {
	limit := uint64(0)
	var both unix.Rlimit
	if err := unix.Prlimit(pid, LimitOfLocks, nil, &both); err == nil {
		limit = both.Max
	} else if err == unix.EPERM { // it has another user; the file may be read all the same
		limit = readLocks(pid)
	}
	if limit < leastTag || limit >= t.own {
		return 0
	}
	return limit
}

func readLocks(pid int) uint64 {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "Max file locks")
		if fields := strings.Fields(rest); ok && len(fields) >= 2 {
			limit, _ := strconv.ParseUint(fields[1], 10, 64) // "unlimited" is no tag
			return limit
		}
	}
	return 0
}
