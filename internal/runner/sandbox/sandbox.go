// Package sandbox runs containers: an image's layers under a writable one,
// namespaces, and no more rights than Kubernetes gives. It implements
// runner.Launcher, works as root and inside a user namespace, and needs
// neither a helper program nor an OCI runtime.
//
// A container is one fork.Program. Launch writes down what the child will do,
// in this order, and starts it; everything that can fail on account of the
// manifest (sources of mounts, users, names) is looked at before:
//
//	signals, group, streams     begin.go
//	root file system            rootfs.go     overlay
//	/dev, /sys                  filesystems.go
//	volumes, working directory  mounts.go, path.go, command.go
//	/proc                       filesystems.go
//	the container's root is ours, the old one is gone; no file is open but the streams
//	                            -- from here on only the container's files exist
//	the working directory is entered, limits   command.go
//	seccomp, capabilities, user identity.go, seccomp.go
//	session, execve             command.go
//
// Two rules make that safe against hostile images, volumes and neighbours:
//
//   - A path of the container is opened inside its root, by descriptor, before the
//     process goes there (path.go). Nothing is looked up in /proc on the way.
//   - Where others can see the process, because it joins their pid namespace, it
//     appears there last of all (fork.Program.Split): with the container's own
//     user, capabilities and filter, no file but its streams, and a memory in
//     which there is nothing but its own program.
//
// What it refuses: images (it is given directories), logs, and remembering anything
// across a restart. Networks are another room's (package network).
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/runner/reap"
	"github.com/sampan-batch/sampan/internal/runner/trash"
)

// startTimeout ends a start that hangs, on a dead network file system for
// instance.
const startTimeout = 2 * time.Minute

// Launcher starts sandboxed containers; it implements runner.Launcher.
type Launcher struct {
	env  runner.LauncherEnv
	host host
	kit  kit

	cgroups *cgroup.Manager
	bin     *trash.Bin
	volumes *volumes
	tags    reap.Tags
	// processes is the limit of processes where no control group has one, or 0.
	processes uint64
	filters   filters
	maker     namespaceMaker
	networks  networks

	weak *weakness // nil but for tests and in builds for them

	mu      sync.Mutex
	pods    map[string]*pod
	running map[string]*process // by the container's ID, until it has ended
}

// New prepares a launcher in env.Dir. The process must be in a mount namespace
// of its own.
func New(env runner.LauncherEnv) (*Launcher, error) {
	l := &Launcher{env: env, tags: reap.OwnTags(), pods: make(map[string]*pod), running: make(map[string]*process), weak: builtWeakness()}
	l.networks.l = l
	if env.NoNamespaces != "" {
		return l, nil // Launch says so
	}
	// The Launcher's paths are used relative to the machine's root, where a link
	// would lead into the container.
	dir, err := filepath.EvalSymlinks(env.Dir)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	l.env.Dir = dir
	if l.host, err = lookAtHost(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if l.kit, err = newKit(dir, &l.host); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if l.bin, err = trash.Open(filepath.Join(dir, "aside"), env.Log); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	// A full disk says nothing of overlayfs, and those who make room need a supervisor.
	if err := l.probeOverlay(); err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	l.volumes = newVolumes(dir, &l.host, hostpath.New(env.Reaper))
	l.cgroups = cgroup.NewManager(cgroup.Config{Owner: dir})
	l.processes = l.cgroups.ProcessLimit()
	if why := l.cgroups.Absent(); why != "" {
		env.Log.Warn("not everything holds on this machine", "why", why)
	}
	go func() { _, _ = l.networks.get() }() // the first pod need not wait as long
	return l, nil
}

// Launch implements runner.Launcher.
func (l *Launcher) Launch(ctx context.Context, spec *runner.Spec, stdin, stdout, stderr *os.File) (runner.Process, error) {
	if l.env.NoNamespaces != "" {
		return nil, &runner.StartError{Reason: "CreateContainerError", Message: "sandbox: " + l.env.NoNamespaces}
	}
	c := l.newContainer(spec, spec.Args)
	proc, err := c.launch(ctx, [3]*os.File{stdin, stdout, stderr})
	c.close()
	if err != nil {
		c.undo()
		return nil, err
	}
	return proc, nil
}

// ReleasePod implements runner.Launcher.
func (l *Launcher) ReleasePod(podUID string) error {
	if l.env.NoNamespaces != "" {
		return nil
	}
	l.mu.Lock()
	p := l.pods[podUID]
	l.mu.Unlock()
	l.networks.leave(podUID)
	err := l.volumes.release(podUID)
	if p == nil {
		return err
	}
	// The supervisor may be told to stop meanwhile, and releases all pods once more: it waits
	// here until this one has been, before it ends.
	err = errors.Join(err, p.release())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pods[podUID] == p {
		delete(l.pods, podUID)
	}
	return err
}

// RemovePod implements runner.Launcher.
func (l *Launcher) RemovePod(podUID string) error {
	err := l.ReleasePod(podUID)
	if l.env.NoNamespaces == "" {
		l.bin.Remove(filepath.Join(l.volumes.dir, podUID))
	}
	return err
}

// Recover implements runner.Launcher. The kernel has killed the containers with
// their supervisor, and mounts have gone with its namespace; what is left is on
// disk and in cgroups. Only a first process that was a set-user-id program may
// have survived: executing one clears the parent-death signal.
func (l *Launcher) Recover(lost []*runner.Spec) error {
	if l.env.NoNamespaces != "" {
		return nil
	}
	var errs []error
	if len(lost) > 0 {
		errs = append(errs, l.killLost(lost))
	}
	names := make([]string, 0, len(lost))
	for _, spec := range lost {
		names = append(names, spec.ID)
	}
	if err := l.cgroups.Recover(names); err != nil {
		// What does not end or go away is no reason to take no containers.
		l.env.Log.Error("groups of a former supervisor are left", "err", err)
	}
	return errors.Join(append(errs, l.recoverLayers())...)
}

// mark is the text that a container's tag is made of.
func (l *Launcher) mark(id string) string { return l.env.Dir + "/" + id }

// container is a process of a container being started: its first one, or one
// that Exec adds.
type container struct {
	l    *Launcher
	spec *runner.Spec
	args []string
	dirs layerDirs
	p    *fork.Program

	pod        *pod
	group      *cgroup.Group
	ignored    string // why limits are not enforced
	ids        ids
	flags      uint64    // CLONE_NEW… of the namespaces that it gets at its birth
	mountNS    int       // when it had to be made before; see joinPod
	target     target    // of Spec.ProcessesOf
	missing    []uintptr // the standard streams that it does not have
	console    console   // with Spec.TTY
	candidates []candidate

	opened       []int // descriptors to close after the start
	made, linked bool  // the directories of dirs
}

func (l *Launcher) newContainer(spec *runner.Spec, args []string) *container {
	return &container{
		l: l, spec: spec, args: args, dirs: l.layerDirs(spec), p: fork.NewProgram(), mountNS: -1, target: target{-1, -1},
	}
}

func (c *container) launch(ctx context.Context, streams [3]*os.File) (runner.Process, error) {
	for _, step := range []func() error{
		c.prepare,
		func() error { return c.begin(streams) },
		c.joinPod,
		c.root,
		c.filesystems,
		func() error { return c.mounts(ctx, notInProc) },
		c.makeDir,
		c.proc,
		func() error { return c.mounts(ctx, inProc) },
		c.leave,
		c.restrict,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if !c.spec.TTY {
		c.missingStreams()
	}
	if err := c.command(!c.ownsPIDs() && !c.spec.HostPID); err != nil {
		return nil, err
	}
	child, err := c.l.startProgram(ctx, c.p, fork.Options{Flags: c.flags})
	if err != nil {
		return nil, c.explain(err)
	}
	p := newProcess(c, child)
	if p.terminal, err = c.takeTerminal(); err != nil {
		_ = p.Signal(int(unix.SIGKILL))
		_, waitErr := p.Wait()
		c.mountNS = -1 // Wait has closed it
		return nil, errors.Join(err, waitErr)
	}
	c.l.mu.Lock()
	c.l.running[c.spec.ID] = p
	c.l.mu.Unlock()
	return p, nil
}

// leave takes the machine out of the process's sight, and what it has open of it.
func (c *container) leave() error {
	c.enterRoot()
	if c.ids.nested {
		c.nestUser()
	}
	if err := c.closeFiles(); err != nil {
		return err
	}
	c.enterDir()
	c.limits()
	return nil
}

// prepare checks the spec and makes what the container is given from outside.
func (c *container) prepare() error {
	if err := c.check(); err != nil {
		return err
	}
	var err error
	if c.ids, err = c.l.host.resolve(c.spec); err != nil {
		return err
	}
	if c.pod, err = c.l.podOf(c.spec); err != nil {
		return fmt.Errorf("sandbox: pod %s: %w", c.spec.Pod.UID, err)
	}
	if err = c.findTarget(); err != nil {
		return err
	}
	if c.ownsPIDs() {
		c.flags = unix.CLONE_NEWNS | unix.CLONE_NEWPID
	}
	c.group, c.ignored, err = c.l.cgroups.Create(cgroup.Container{
		Pod: c.spec.Pod.UID, PodPids: c.spec.PodPids, Name: c.spec.ID, Resources: c.spec.Resources,
	})
	if err != nil {
		c.l.env.Log.Warn("a container runs without what its cgroup should do", "container", c.spec.ID, "err", err)
	}
	return nil
}

// check refuses what must not reach the kernel as a C string or a path.
func (c *container) check() error {
	s := c.spec
	if s.ID == "" || strings.ContainsAny(s.ID, "/\x00") || s.ID[0] == '.' {
		return fmt.Errorf("sandbox: container id %q is not a file name", s.ID)
	}
	refuse := func(what, value string) error {
		return &runner.StartError{Reason: "CreateContainerConfigError", Message: fmt.Sprintf("%s: %q", what, value)}
	}
	if len(s.Args) == 0 || s.Args[0] == "" {
		return &runner.StartError{Reason: "CreateContainerError", Message: "no command specified"}
	}
	for _, list := range [][]string{s.Args, s.Env, s.Layers, {s.Dir, s.Hostname, s.TerminationLogPath}} {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return refuse("a value contains a NUL byte", v)
			}
		}
	}
	if s.Dir != "" && !filepath.IsAbs(s.Dir) {
		return refuse("working directory is not an absolute path", s.Dir)
	}
	if err := errors.Join(checkPath("chdir", s.Dir), checkPath("mount", s.TerminationLogPath)); err != nil {
		return err
	}
	for _, m := range s.Mounts {
		if err := checkPath("mount", m.Target); err != nil {
			return err
		}
		if strings.IndexByte(m.Source+m.Target, 0) >= 0 || !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
			return refuse("a mount's target must be an absolute path other than /", m.Target)
		}
		if err := checkTarget(m.Target); err != nil {
			return err
		}
	}
	if s.TerminationLog != "" && s.TerminationLogPath != "" {
		return checkTarget(s.TerminationLogPath)
	}
	return nil
}

// startProgram starts p and returns when it has come to its command.
func (l *Launcher) startProgram(ctx context.Context, p *fork.Program, opts fork.Options) (*reap.Child, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return l.env.Reaper.Start(ctx, func() (int, int, reap.Starting, error) {
		c, err := p.Start(opts)
		if err != nil {
			return 0, -1, nil, err
		}
		return c.PID, c.PidFD, c, nil
	})
}

// close gives back what only the start needed.
func (c *container) close() {
	for _, fd := range c.opened {
		_ = unix.Close(fd)
	}
	c.opened = nil
	c.p.Close()
	if c.linked {
		_ = os.RemoveAll(c.dirs.links)
	}
}

// undo removes what a container that did not start has left.
func (c *container) undo() {
	if c.mountNS >= 0 {
		_ = unix.Close(c.mountNS)
	}
	if c.group != nil {
		if err := c.group.Remove(); err != nil {
			c.l.env.Log.Warn("cannot remove cgroup", "container", c.spec.ID, "err", err)
		}
	}
	if c.made {
		c.dirs.remove(c.l.bin)
	}
}
