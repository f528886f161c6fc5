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
// otherwise; ReadOnlyRoot, Hostname, Capabilities and their like are ignored.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// markerKey is the variable that tells a container's processes.
const markerKey = "SAMPAN_CONTAINER"

// Launcher starts plain processes. It implements runner.Launcher.
type Launcher struct {
	env     runner.LauncherEnv
	ps      processTable
	dirs    *workDirs
	groups  *cgroup.Manager
	sweeper sweeper
	// files is the limit of open files that a container gets. Go raises the
	// supervisor's own; programs that call select expect no more than 1024.
	files unix.Rlimit
	null  *os.File // what a process reads that has no standard input
	// inherited are the variables that a container gets from the supervisor when
	// its own environment lacks them.
	inherited []string
}

var _ runner.Launcher = (*Launcher)(nil)

// New returns a Launcher.
func New(env runner.LauncherEnv) (*Launcher, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	loadavg, err := os.Open("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	dirs, err := openWorkDirs(filepath.Join(env.Dir, "work"))
	if err != nil {
		return nil, err
	}
	l := &Launcher{env: env, null: null, dirs: dirs, groups: cgroup.NewManager(cgroup.Config{Owner: env.Dir})}
	if why := l.groups.Absent(); canLimit && why != "" {
		env.Log.Warn("not everything holds on this machine", "why", why)
	}
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
	for _, m := range spec.Mounts {
		if filepath.Clean(m.Source) != filepath.Clean(m.Target) {
			return nil, configError("the host runtime has no file system of its own: it cannot mount %s", m.Target)
		}
	}
	credential, err := credentialOf(spec)
	if err != nil {
		return nil, err
	}
	dir, err := l.workDir(spec, credential)
	if err != nil {
		return nil, err
	}
	p := &process{
		launcher: l, id: spec.ID, dir: dir, env: l.environment(spec), credential: credential,
	}
	if canLimit {
		p.group, p.ignored, err = l.groups.Create(cgroup.Container{
			Pod: spec.Pod.UID, PodPids: spec.PodPids, Name: spec.ID, Resources: spec.Resources,
		})
		if err != nil {
			l.env.Log.Warn("a container runs without what its cgroup should do", "id", spec.ID, "err", err)
		}
	} else if spec.Resources != (runner.Resources{}) {
		p.ignored = "not on " + runtime.GOARCH
	}
	if err := p.start(ctx, spec.Args, stdin, stdout, stderr, spec.TTY); err != nil {
		return nil, errors.Join(err, p.Release())
	}
	return p, nil
}

func configError(format string, args ...any) error {
	return &runner.StartError{Reason: "CreateContainerConfigError", Message: fmt.Sprintf(format, args...)}
}

// environment is exactly what the container was given, and three variables
// that a plain process would have.
func (l *Launcher) environment(spec *runner.Spec) []string {
	env := make([]string, 0, len(spec.Env)+len(l.inherited)+2)
	env = append(env, spec.Env...)
	for _, kv := range l.inherited {
		key := kv[:strings.IndexByte(kv, '=')+1]
		if !slices.ContainsFunc(spec.Env, func(own string) bool { return strings.HasPrefix(own, key) }) {
			env = append(env, kv)
		}
	}
	if spec.TerminationLog != "" {
		env = append(env, "SAMPAN_TERMINATION_LOG="+spec.TerminationLog)
	}
	return append(env, markerKey+"="+l.mark(spec.ID))
}

// mark is what tells the processes of a container from all others on the
// machine, those of other supervisors included.
func (l *Launcher) mark(id string) string { return l.env.Dir + "/" + id }

// credentialOf says as whom to run; nil is the supervisor's own user.
func credentialOf(spec *runner.Spec) (*syscall.Credential, error) {
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	if spec.UID != nil {
		uid = *spec.UID
		if gid = 0; uid == uint32(os.Geteuid()) {
			gid = uint32(os.Getegid())
		}
	}
	if spec.GID != nil {
		gid = *spec.GID
	}
	same := uid == uint32(os.Geteuid()) && gid == uint32(os.Getegid())
	if os.Geteuid() == 0 {
		if same && len(spec.Groups) == 0 && spec.UID == nil {
			return nil, nil
		}
		return &syscall.Credential{Uid: uid, Gid: gid, Groups: spec.Groups}, nil
	}
	if !same {
		return nil, configError("the host runtime cannot run as %d:%d: it is an ordinary user, %d:%d",
			uid, gid, os.Geteuid(), os.Getegid())
	}
	return nil, nil // the groups of an ordinary user are what they are
}

// workDir returns the working directory, which is created if need be.
func (l *Launcher) workDir(spec *runner.Spec, as *syscall.Credential) (string, error) {
	var dir string
	var err error
	if dir = spec.Dir; dir == "" {
		dir, err = l.dirs.get(spec.Pod.UID, as)
	} else {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", &runner.StartError{Reason: "CreateContainerError", Message: "create the working directory: " + err.Error()}
	}
	return dir, nil
}

// RemovePod implements runner.Launcher.
func (l *Launcher) RemovePod(podUID string) error { return l.dirs.remove(podUID) }

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
