package engine

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

func TestCheckLimits(t *testing.T) {
	t.Parallel()
	least := leastProcesses()
	for _, c := range []struct {
		limits map[int]uint64 // others are infinite
		uid    int
		want   string // what the error has in it; "" if there is none
	}{
		{nil, 1000, ""},
		{map[int]uint64{unix.RLIMIT_NOFILE: 20}, 0, "open files may be 20 here, and an engine needs 128: raise the limit where it was set, as by `ulimit -n 1024`"},
		{map[int]uint64{unix.RLIMIT_NOFILE: 128}, 0, ""},
		{map[int]uint64{unix.RLIMIT_FSIZE: 100 << 10}, 0, "a file may be 100 KiB long here, and an engine needs 16384: "},
		{map[int]uint64{unix.RLIMIT_FSIZE: 16 << 20}, 0, ""},
		{map[int]uint64{unix.RLIMIT_AS: 800000 << 10}, 0, "the memory that a process has addresses for may be 800000 KiB here, and an engine needs 921600: "},
		{map[int]uint64{unix.RLIMIT_AS: 1000000 << 10}, 0, ""},
		{map[int]uint64{unix.RLIMIT_NPROC: 7 + least - 1}, 1000, fmt.Sprintf("processes and threads of this user may be %d here, and an engine needs %d besides the 7 that there are: ", 6+least, least)},
		{map[int]uint64{unix.RLIMIT_NPROC: 7 + least}, 1000, ""},
		{map[int]uint64{unix.RLIMIT_NPROC: 1}, 0, ""}, // which the kernel does not hold root to
	} {
		limit := func(resource int) uint64 {
			if n, set := c.limits[resource]; set {
				return n
			}
			return unix.RLIM_INFINITY
		}
		err := checkLimits(runner.Sandbox, limit, c.uid, func(int) int64 { return 7 })
		if err == nil && c.want != "" || err != nil && (c.want == "" || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%v: got %v, want %q", c.limits, err, c.want)
		}
	}
}

func TestPodsWith(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files uint64
		class runner.Class
		want  int64
	}{
		{20, runner.Host, 1}, {64, runner.Sandbox, 1}, {128, runner.Host, 8}, {152, runner.Sandbox, 1}, {176, runner.Sandbox, 2}, {896, runner.Sandbox, 32}, {1024, runner.Sandbox, 44}, {4096, runner.Sandbox, 352}, {20000, runner.Sandbox, 1942},
		{1 << 20, runner.Sandbox, 104800}, {unix.RLIM_INFINITY, runner.Host, 1 << 31},
	} {
		if got := podsWith(c.files, c.class); got != c.want {
			t.Errorf("%d files, %s: %d, want %d", c.files, c.class, got, c.want)
		}
	}
}
