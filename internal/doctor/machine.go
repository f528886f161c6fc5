package doctor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Linux has all that the sandbox uses since this version (mount_setattr).
const major, minor = 5, 12

func kernel(context.Context) []Finding {
	const name = "kernel"
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return []Finding{broken(name, "", "%v", err)}
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if older(release) {
		return []Finding{broken(name, "use --runtime=host, or a newer kernel", "Linux %s: the sandbox needs %d.%d", release, major, minor)}
	}
	return []Finding{ok(name, "Linux %s, %s", release, runtime.GOARCH)}
}

// older tells whether a release is older than what is needed. One that cannot be read is
// not.
func older(release string) bool {
	var have [2]int
	if n, _ := fmt.Sscanf(release, "%d.%d", &have[0], &have[1]); n < 2 {
		return false
	}
	return slices.Compare(have[:], []int{major, minor}) < 0
}

// groups tells of control groups; ignored is what of the limits of a container was not
// enforced, and why.
func groups(ignored string) Finding {
	const name = "cgroups"
	kinds := map[string]bool{}
	for _, kind := range mountTypes("/proc/self/mountinfo") {
		kinds[kind] = true
	}
	version := "none is mounted"
	switch {
	case kinds["cgroup"] && kinds["cgroup2"]:
		version = "version 1 and 2 (hybrid)"
	case kinds["cgroup"]:
		version = "version 1"
	case kinds["cgroup2"]:
		version = "version 2"
	}
	if ignored == "" {
		return ok(name, "%s; limits of memory, cpu and processes hold", version)
	}
	return limited(name, "as root on a machine whose cgroups can be written, or delegated by systemd (`sampan install`), limits hold", "%s; limits are not enforced: %s", version, ignored)
}

// devices tries those of the machine.
func devices() []Finding {
	const name = "/dev"
	var lacks []string
	for _, device := range []string{"/dev/null", "/dev/ptmx"} {
		if err := tryDevice(device); err != nil {
			lacks = append(lacks, err.Error())
		}
	}
	if len(lacks) > 0 {
		return []Finding{limited(name, "mount a devtmpfs and a devpts, as a login session has them", "%s", strings.Join(lacks, "; "))}
	}
	return []Finding{ok(name, "null and terminals work")}
}

// few is how many files an engine with some hundred pods has open.
const few = 4096

func limits() []Finding {
	const name = "limits"
	var files, processes unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return []Finding{limited(name, "", "%v", err)}
	}
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &processes); err != nil {
		return []Finding{limited(name, "", "%v", err)}
	}
	how := fmt.Sprintf("open files %s, processes %s, pid_max %s", amount(files.Max), amount(processes.Max), sysctl("kernel/pid_max"))
	if low := (*engine.LimitError)(nil); errors.As(engine.CheckLimits(runner.Sandbox), &low) {
		return []Finding{broken(name, "raise it: `"+low.Raise+"`", "%s may be %s here, and an engine needs %s", low.What, low.Have, low.Need)}
	}
	switch {
	case files.Max < few:
		return []Finding{limited(name, "raise it: LimitNOFILE= of a unit, `nofile` in /etc/security/limits.conf", "%s: too few files for some hundred pods", how)}
	case processes.Max < few:
		return []Finding{limited(name, "raise it: LimitNPROC= of a unit, `nproc` in /etc/security/limits.conf", "%s: too few processes for some hundred pods", how)}
	}
	return []Finding{ok(name, "%s", how)}
}

func amount(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// written is a day on which this was written: no clock that is right shows an earlier one.
var written = time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)

// clock looks at what CronJobs, deadlines and certificates go by.
func clock(now time.Time) []Finding {
	const name = "clock"
	if now.Before(written) {
		return []Finding{broken(name, "set it, and have it kept right: chrony, systemd-timesyncd", "it shows %s", now.UTC().Format(time.RFC3339))}
	}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil || state == unix.TIME_ERROR {
		return []Finding{limited(name, "CronJobs go by it: have it kept right by chrony or systemd-timesyncd", "%s; the kernel does not know that anybody keeps it right", now.UTC().Format(time.RFC3339))}
	}
	return []Finding{ok(name, "%s, kept right", now.UTC().Format(time.RFC3339))}
}
