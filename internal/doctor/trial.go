package doctor

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/runner"
)

// try runs a container of a class in a directory of its own in dir.
func (o Options) try(ctx context.Context, class runner.Class, dir string) (s seen, tried engine.Tried, err error) {
	// Of this name, `sampan check` says what it is, should it remain.
	own, err := os.MkdirTemp(dir, ".new-doctor-*")
	if err != nil {
		return s, tried, err
	}
	defer func() { err = errors.Join(err, engine.Discard(own)) }()
	program, err := os.Executable()
	if err != nil {
		return s, tried, err
	}
	tried, err = engine.Trial{
		Dir: own, Class: class, Args: append([]string{program}, o.Trial...), Shows: needs(program),
	}.Run(ctx)
	if err == nil {
		err = json.Unmarshal(tried.Message, &s)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("no answer in time: %w", err)
	}
	return s, tried, err
}

// needs are the files that a program needs to run: itself, and if it is dynamic, the
// libraries of the machine.
func needs(program string) []string {
	paths := []string{program}
	file, err := elf.Open(program)
	if err != nil {
		return paths
	}
	defer file.Close()
	if file.Section(".interp") == nil {
		return paths
	}
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} {
		if _, err := os.Stat(dir); err == nil {
			paths = append(paths, dir)
		}
	}
	return paths
}

// place is where a trial is made: in the data directory or what there is of the way to
// it, so that its file system is the one that is tried, or else where files may be made.
func (o Options) place() string {
	nearest, err := engine.Keeps(o.DataDir)
	if err != nil {
		return os.TempDir()
	}
	probe, err := os.MkdirTemp(nearest, ".new-doctor-*") // of a name of its own: probes ask at once
	if err != nil || os.Remove(probe) != nil {
		return os.TempDir()
	}
	return nearest
}

// sandbox runs a container, and tells of each part of it.
func (o Options) sandbox(ctx context.Context) []Finding {
	const name = string(runner.Sandbox)
	s, tried, err := o.try(ctx, runner.Sandbox, o.place())
	if err != nil {
		return append(namespaces(nil), broken(name, adviceFor(err), "a container could not be run: %s", oneLine(err)))
	}
	return append(namespaces(&s),
		ok(name, "a container was started, and ended with 0"),
		overlay(&s), mounted(&s), filtered(&s), ownDevices(&s), ownNetwork(tried.SharesNetwork), groups(tried.LimitsIgnored))
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// remedies are what helps against what the kernel says of a step.
var remedies = []struct{ step, advice string }{
	{"newuidmap", "see subuid(5); without ranges in /etc/subuid and /etc/subgid one id is used"},
	{"user namespaces", ""}, // the message says what to do
	{"chroot", ""},
	{"overlay", "name a data directory on ext4, xfs, btrfs or tmpfs (--data-dir, and TMPDIR for `sampan run`); ordinary users need Linux 5.11"},
	{"sysfs", "/sys must be visible: in a container, do without masks on it (docker run --security-opt systempaths=unconfined)"},
	{"/sys", "/sys must be visible: in a container, do without masks on it (docker run --security-opt systempaths=unconfined)"},
	{"proc", "/proc must be mounted without masks: in a container, docker run --security-opt systempaths=unconfined"},
	{"no space left", "make room, or name another directory (--data-dir, TMPDIR)"},
	{"too many open files", "raise the limit of open files: ulimit -n"},
	{"seccomp", "the kernel needs CONFIG_SECCOMP_FILTER"},
	{"operation not permitted", "in a container, mounts must be allowed (docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined), or use --runtime=host"},
}

// adviceFor says what to do about a container that could not be run.
func adviceFor(err error) string {
	text := strings.ToLower(err.Error())
	for _, r := range remedies {
		if strings.Contains(text, r.step) {
			return r.advice
		}
	}
	return "use --runtime=host, which isolates nothing"
}

func overlay(s *seen) Finding {
	const name = "overlayfs"
	switch {
	case s.Root != "overlay":
		return broken(name, "", "the container's root is %q", s.Root)
	case s.Unwritable != "":
		return limited(name, "name a data directory on another file system (--data-dir)", "a container cannot write to its root: %s", s.Unwritable)
	}
	return ok(name, "a container has its own root, and writes to it")
}

func mounted(s *seen) Finding {
	const name = "/proc and /sys"
	if s.Proc != "proc" || s.Sys == "" {
		return limited(name, "", "a container has %q on /proc and %q on /sys", s.Proc, s.Sys)
	}
	return ok(name, "a container has its own")
}

func filtered(s *seen) Finding {
	if s.Seccomp != "2" {
		return limited("seccomp", "use a kernel with CONFIG_SECCOMP_FILTER", "containers run without a filter of system calls (mode %q)", s.Seccomp)
	}
	return ok("seccomp", "containers run under the default profile")
}

func ownDevices(s *seen) Finding {
	const name = "container devices"
	if len(s.Lacks) > 0 {
		return limited(name, "", "%s", strings.Join(s.Lacks, "; "))
	}
	return ok(name, "null, zero, urandom and terminals work")
}

func ownNetwork(shares string) Finding {
	const name = "pod networks"
	if shares != "" {
		return limited(name, "the kernel needs network namespaces, veth, macvlan and nftables (CONFIG_NET_NS, CONFIG_VETH, CONFIG_MACVLAN, CONFIG_NF_TABLES), and /proc/sys must not be read-only",
			"pods share the machine's network, and reach no Services: %s", strings.ReplaceAll(shares, "\n", "; "))
	}
	return ok(name, "a container has a network of its own")
}

// host runs a process of the machine.
func (o Options) host(ctx context.Context) []Finding {
	const name = string(runner.Host)
	if _, _, err := o.try(ctx, runner.Host, o.place()); err != nil {
		return []Finding{broken(name, adviceFor(err), "a process of runtime class host could not be run: %s", oneLine(err))}
	}
	return []Finding{ok(name, "a process of runtime class host was started, and ended with 0")}
}

// temporary looks at the directory in which `sampan run` works, and tries it where it is on
// another file system than the data directory.
func (o Options) temporary(ctx context.Context) []Finding {
	dir := os.TempDir()
	return append(o.works(ctx, dir), abandoned(dir)...)
}

// abandoned tells of runs that were killed, and left their directories.
func abandoned(dir string) []Finding {
	all := engine.Abandoned(dir)
	for _, s := range all {
		s.Release()
	}
	if len(all) == 0 {
		return nil
	}
	return []Finding{limited("killed runs", "the next `sampan run` removes it", "%d directories of runs that were killed are in %s, the first is %s", len(all), dir, all[0].Dir)}
}

// works tries a temporary directory.
func (o Options) works(ctx context.Context, dir string) []Finding {
	const name = "temporary directory"
	if sameDevice(dir, o.place()) {
		return []Finding{ok(name, "%s, on the file system of the data directory", dir)}
	}
	if _, _, err := o.try(ctx, runner.Sandbox, dir); err != nil {
		return []Finding{limited(name, "let TMPDIR name another directory", "%s: `sampan run` cannot run a container there: %s", dir, oneLine(err))}
	}
	return []Finding{ok(name, "%s: a container was run there", dir)}
}
