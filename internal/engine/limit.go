package engine

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
)

// LimitError says that this process may have too little of something for an engine, which would wait
// for ever for what it cannot get, or be ended by the Go runtime in the middle of its work.
type LimitError struct {
	What, Have, Need string
	Raise            string // the command that raises the limit
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s may be %s here, and an engine needs %s: raise the limit where it was set, as by `%s`", e.What, e.Have, e.Need, e.Raise)
}

// What an engine and its supervisors need to run a pod or two.
const (
	leastLength = 16 << 20  // of a file: the store, and the memory from which programs are started
	leastMemory = 900 << 20 // of addresses, which the Go runtime reserves long before it uses them
)

// files are what an engine and the supervisor of a class need of open files to run a pod; how many of
// the supervisor's a pod of one container holds; and how many more while it starts and while it goes.
func files(class runner.Class) (least, held, passing uint64) {
	if class == runner.Host {
		return 64, 5, 3
	}
	return 128, 10, 14
}

// mostPassing is how many pods start and go at a time: the supervisor does it with a few, and those
// that come do not wait for those that go.
const mostPassing = 32

// leastProcesses is how many processes and threads there may have to be besides those of the user's
// that there are.
func leastProcesses() uint64 { return 32 + 4*uint64(runtime.NumCPU()) }

// CheckLimits returns the first limit of this process (see setrlimit(2)) that is too low for an
// engine whose pods are of a class, as a *LimitError.
func CheckLimits(class runner.Class) error {
	return checkLimits(class, limitOf, os.Geteuid(), cgroup.ThreadsOf)
}

func limitOf(resource int) uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(resource, &limit); err != nil {
		return unix.RLIM_INFINITY
	}
	return limit.Cur
}

func checkLimits(class runner.Class, limit func(resource int) uint64, uid int, threads func(uid int) int64) error {
	least, _, _ := files(class)
	if files := limit(unix.RLIMIT_NOFILE); files < least {
		return &LimitError{"open files", fmt.Sprintf("%d", files), fmt.Sprintf("%d", least), "ulimit -n 1024"}
	}
	if length := limit(unix.RLIMIT_FSIZE); length < leastLength {
		return &LimitError{"a file", fmt.Sprintf("%d KiB long", length>>10), fmt.Sprintf("%d", leastLength>>10), "ulimit -f unlimited"}
	}
	if memory := limit(unix.RLIMIT_AS); memory < leastMemory {
		return &LimitError{"the memory that a process has addresses for", fmt.Sprintf("%d KiB", memory>>10), fmt.Sprintf("%d", leastMemory>>10), "ulimit -v unlimited"}
	}
	const plenty = 1 << 20 // nobody has to be counted
	if most := limit(unix.RLIMIT_NPROC); uid != 0 && most < plenty {
		if used := uint64(threads(uid)); most < used+leastProcesses() {
			return &LimitError{"processes and threads of this user", fmt.Sprintf("%d", most), fmt.Sprintf("%d besides the %d that there are", leastProcesses(), used), "ulimit -u 4096"}
		}
	}
	return nil
}

// podsWith is how many pods of a class a node can have at a time where each process, as its supervisor,
// may have so many files open.
func podsWith(most uint64, class runner.Class) int64 {
	least, held, passing := files(class)
	if most < least+held+passing {
		return 1
	}
	all := (most - least) / (held + passing) // if each of them were passing
	if all > mostPassing {
		all = (most - least - mostPassing*passing) / held
	}
	return int64(min(all, 1<<31))
}
