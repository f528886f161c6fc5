// Package host starts containers as plain processes of this machine: the
// command of the manifest, with the environment of the manifest, as this user,
// in this machine's file system. It isolates nothing; it is for commands that an
// image would only wrap.
//
// What it does keep of a container is that it ends as a whole. When its first
// process ends, or is killed, all that it has started is killed too, also what
// went into the background in a session and an environment of its own. It is
// found
//
//   - in the container's control group, where the machine gives us any;
//   - by its session;
//   - by a tag that it cannot lose by accident (reap.Tags);
//   - by the variable SAMPAN_CONTAINER, whose value is the container's ID below the
//     supervisor's directory;
//   - at last, when it has got rid of all of these on purpose, as an orphan that
//     no running container can have started (see sweep).
//
// What somebody else starts for a container (cron, a service manager, a container
// engine that it may talk to) is not the container's, and is not found.
//
// What Kubernetes promises of an image's file system has no meaning here. A
// mount is accepted when its source and target are the same path, and refused
// otherwise; ReadOnlyRoot, Hostname, seccomp and their like are ignored. What takes
// rights away from a process is kept: RunAsNonRoot, AllowPrivilegeEscalation and
// Capabilities; none are given.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/runner/reap"
	"github.com/sampan-batch/sampan/internal/runner/trash"
)

// markerKey is the variable that tells a container's processes.
const markerKey = "SAMPAN_CONTAINER"

// Launcher starts plain processes. It implements runner.Launcher.
type Launcher struct {
	runner.MachineNetwork
	env    runner.LauncherEnv
	ps     processTable
	caps   capabilities
	memory int64 // bytes of this machine
	// processes is the limit of processes where no control group has one, or 0.
	processes uint64
	bin       *trash.Bin
	dirs      *workDirs
	scout     *hostpath.Scout
	groups    *cgroup.Manager
	sweeper   sweeper
	// files is the limit of open files that a container gets. Go raises the
	// supervisor's own; programs that call select expect no more than 1024.
	files unix.Rlimit
	null  *os.File // the standard streams that a process does not have
	// inherited are the variables that a container gets from the supervisor when
	// its own environment lacks them.
	inherited []string
}

var _ runner.Launcher = (*Launcher)(nil)

// New returns a Launcher.
func New(env runner.LauncherEnv) (*Launcher, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	loadavg, err := os.Open("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	bin, err := trash.Open(filepath.Join(env.Dir, "aside"), env.Log)
	if err != nil {
		return nil, err
	}
	dirs, err := openWorkDirs(filepath.Join(env.Dir, "work"), bin)
	if err != nil {
		return nil, err
	}
	l := &Launcher{env: env, null: null, bin: bin, dirs: dirs, scout: hostpath.New(env.Reaper), groups: cgroup.NewManager(cgroup.Config{Owner: env.Dir})}
	if why := l.groups.Absent(); canLimit && why != "" {
		env.Log.Warn("not everything holds on this machine", "why", why)
	}
	if l.caps, err = ownCapabilities(); err != nil {
		return nil, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, os.NewSyscallError("sysinfo", err)
	}
	l.memory = int64(info.Totalram) * int64(info.Unit)
	l.processes = l.groups.ProcessLimit()
	l.sweeper.idle = !isSubreaper()
	l.ps.loadavg, l.ps.tags = loadavg, reap.OwnTags()
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l.files); err != nil {
		return nil, os.NewSyscallError("getrlimit", err)
	}
	l.files.Cur = min(l.files.Max, 1024)
	for _, key := range []string{"PATH", "HOME"} {
		if value := os.Getenv(key); value != "" {
			l.inherited = append(l.inherited, key+"="+value)
		}
	}
	return l, nil
}

// Launch implements runner.Launcher.
func (l *Launcher) Launch(ctx context.Context, spec *runner.Spec, stdin, stdout, stderr *os.File) (runner.Process, error) {
	if err := l.checkMounts(ctx, spec.Mounts); err != nil {
		return nil, err
	}
	rights, err := l.rightsOf(spec)
	if err != nil {
		return nil, err
	}
	dir, err := l.workDir(spec, rights.credential)
	if err != nil {
		return nil, err
	}
	p := &process{launcher: l, id: spec.ID, name: spec.Container, dir: dir, makeDir: spec.Dir != "", rights: rights, oomScore: l.oomScore(spec.Resources.MemoryLimit)}
	terminationLog := spec.TerminationLog
	if c := rights.credential; isOther(c) && terminationLog != "" {
		if p.words, err = l.dirs.lastWordsFor(terminationLog, c); err != nil {
			return nil, createError("create the termination log: %v", err)
		}
		terminationLog = p.words.path
	}
	p.env = l.environment(spec, terminationLog)
	if canLimit {
		p.group, p.ignored, err = l.groups.Create(cgroup.Container{
			Pod: spec.Pod.UID, PodPids: spec.PodPids, Name: spec.ID, Resources: spec.Resources,
		})
		if err != nil {
			l.env.Log.Warn("a container runs without what its cgroup should do", "container", spec.ID, "err", err)
		}
	} else if spec.Resources != (runner.Resources{}) {
		p.ignored = "not on " + runtime.GOARCH
	}
	if err := p.start(ctx, spec.Args, stdin, stdout, stderr, spec.TTY); err != nil {
		return nil, errors.Join(err, p.Release())
	}
	return p, nil
}

func createError(format string, args ...any) error {
	return &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf(format, args...)}
}

func configError(format string, args ...any) error {
	return &runner.StartError{Reason: "CreateContainerConfigError", Message: fmt.Sprintf(format, args...)}
}

// oomScore is the more the less memory a container may use, as a kubelet has it.
func (l *Launcher) oomScore(limit int64) int64 {
	if limit <= 0 || l.memory <= 0 {
		return 1000
	}
	return min(max(1000-1000*limit/l.memory, 3), 999)
}

// mark is what tells the processes of a container from all others on the
// machine, those of other supervisors included.
func (l *Launcher) mark(id string) string { return l.env.Dir + "/" + id }

// workDir returns the working directory. One that the manifest names is made, if
// need be, by the process itself: whoever touches it may wait for long.
func (l *Launcher) workDir(spec *runner.Spec, as *syscall.Credential) (string, error) {
	if len(spec.Dir) >= runner.MaxPath {
		return "", createError("create the working directory: mkdir %.64s…: %v", spec.Dir, unix.ENAMETOOLONG)
	}
	if spec.Dir != "" {
		return spec.Dir, nil
	}
	dir, err := l.dirs.get(spec.Pod.UID, as)
	if err != nil {
		return "", createError("create the working directory: %v", err)
	}
	return dir, nil
}

// Recover implements runner.Launcher.
func (l *Launcher) Recover(lost []*runner.Spec) error {
	names := make([]string, 0, len(lost))
	for _, spec := range lost {
		names = append(names, spec.ID)
	}
	if err := l.groups.Recover(names); err != nil {
		// What does not end or go away is no reason to take no containers.
		l.env.Log.Error("groups of a former supervisor are left", "err", err)
	}
	if len(lost) == 0 {
		return nil
	}
	marks, tags := make(map[string]bool, len(lost)), make(map[uint64]bool, len(lost))
	for _, spec := range lost {
		marks[l.mark(spec.ID)], tags[l.ps.tags.Of(l.mark(spec.ID))] = true, true
	}
	delete(tags, 0)
	longAgo := func() uint64 { return 0 }
	l.ps.kill(l.ps.all, func(pid int) answer {
		if tags[l.ps.tags.Carried(pid)] {
			return yes
		}
		return isMarked(pid, longAgo, func(mark string) bool { return marks[mark] })
	})
	return nil
}
