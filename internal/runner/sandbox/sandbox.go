// Package sandbox runs containers.
package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// Launcher starts sandboxed containers; it implements runner.Launcher.
type Launcher struct {
	env    runner.LauncherEnv
	userNS bool
	self   int // pidfd of this process

	mu sync.Mutex
}

// New prepares a launcher in env.Dir.
func New(env runner.LauncherEnv) (*Launcher, error) {
	l := &Launcher{env: env}
	for _, dir := range []string{"mnt", "c"} {
		if err := os.MkdirAll(filepath.Join(env.Dir, dir), 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	l.self, err = unix.PidfdOpen(os.Getpid(), 0)
	return l, err
}

// Launch implements runner.Launcher.
func (l *Launcher) Launch(spec *runner.Spec, stdin, stdout, stderr *os.File) (*reap.Child, error) {
	dir := filepath.Join(l.env.Dir, "c", spec.ID)
	for _, d := range []string{dir, dir + "/u", dir + "/w"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	p := fork.NewProgram()
	l.begin(p, []*os.File{stdin, stdout, stderr})
	l.root(p, spec, dir)
	l.filesystems(p)
	p.Add(
		fork.Call("leave the old root", unix.SYS_UMOUNT2, p.String("."), unix.MNT_DETACH),
		chdirStep(p, "/"),
		fork.Call("close files", unix.SYS_CLOSE_RANGE, 3, ^uintptr(0)&0xffffffff, 0),
	)
	p.Add(fork.Call("exec", unix.SYS_EXECVE, p.String(spec.Args[0]), p.Strings(spec.Args), p.Strings(spec.Env)))
	return l.env.Reaper.Start(func() (int, int, error) {
		c, err := p.Start(context.Background(), fork.Options{
			Flags:    unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			CgroupFD: -1,
		})
		return c.PID, c.PidFD, err
	})
}

func (l *Launcher) begin(p *fork.Program, files []*os.File) {
	poll := []unix.PollFd{{Fd: int32(l.self), Events: unix.POLLIN}}
	p.Keep(poll)
	mask := new(unix.Sigset_t)
	p.Keep(mask)
	p.Add(
		fork.Call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, fork.Pointer(mask), 0, 8),
		prctlStep("set parent-death signal", unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)),
		fork.Call("check the parent", unix.SYS_POLL, fork.Pointer(&poll[0]), 1, 0).MustBeZero(),
		fork.Call("new session", unix.SYS_SETSID),
	)
	for i, f := range files {
		p.Add(fork.Call(fmt.Sprintf("open stream %d", i), unix.SYS_DUP3, f.Fd(), uintptr(i), 0))
	}
	p.Add(fork.Call("make mounts private", unix.SYS_MOUNT, 0, p.String("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0))
}

func (l *Launcher) root(p *fork.Program, spec *runner.Spec, dir string) {
	mnt := filepath.Join(l.env.Dir, "mnt")
	lower := make([]string, len(spec.Layers))
	for i, layer := range spec.Layers {
		lower[len(lower)-1-i] = layer
	}
	opts := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + dir + "/u,workdir=" + dir + "/w,volatile"
	if l.userNS {
		opts += ",userxattr"
	}
	p.Add(mountStep(p, "overlay", mnt, "overlay", unix.MS_NODEV, opts))
	open := p.Len()
	p.Add(
		fork.Call("open the old root", unix.SYS_OPENAT, at, p.String("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC),
		chdirStep(p, mnt),
		fork.Call("pivot_root", unix.SYS_PIVOT_ROOT, p.String("."), p.String(".")),
		fork.Call("enter the old root", unix.SYS_FCHDIR),
	)
	p.Pass(open, open+3, 0)
}

func (l *Launcher) filesystems(p *fork.Program) {
	p.Add(
		mkdirStep(p, "/proc", 0o755),
		mountStep(p, "proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		mkdirStep(p, "/dev", 0o755),
		mountStep(p, "tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=65536k"),
	)
}
