package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/cgroup"
	"github.com/sampan-batch/sampan/internal/runner/reap"
	"github.com/sampan-batch/sampan/internal/runner/terminal"
)

// process is a container's first process, or one that Exec added.
type process struct {
	launcher *Launcher
	id, name string        // the container's
	added    bool          // by Exec
	group    *cgroup.Group // nil: there is none
	ignored  string

	dir      string
	makeDir  bool // it may be missing
	env      []string
	rights   rights
	oomScore int64
	words    *lastWords // nil: the process can write to the termination log itself

	child    *reap.Child
	terminal *os.File // see Terminal
	started  time.Time

	// adding is held for reading while Exec adds a process; none is added once
	// over is set, so that all there are get killed.
	adding sync.RWMutex
	over   bool
}

var _ runner.Process = (*process)(nil)

// start executes the command. The process leads a session, so that a signal
// to its group meets what a shell started too, and no terminal of the engine's
// can reach it; it is killed when the supervisor dies.
func (p *process) start(ctx context.Context, args []string, stdin, stdout, stderr *os.File, tty bool) error {
	if len(args) == 0 {
		return configError("the host runtime needs a command: it has no image that would name one")
	}
	streams, err := p.streams([3]*os.File{stdin, stdout, stderr}, tty)
	if err != nil {
		return err
	}
	if tty {
		defer streams[0].Close()
	}
	p.started = time.Now()
	p.launcher.sweeper.starting.Add(1)
	defer p.launcher.sweeper.starting.Add(-1)
	p.child, err = p.forkExec(ctx, args, streams, tty)
	var other *runner.StartError
	if err != nil && !errors.As(err, &other) {
		err = notExecutable(args[0], err)
	}
	if err != nil {
		if tty {
			p.terminal.Close()
		}
		return err
	}
	p.launcher.ps.sessions.Store(p.PID(), p.id)
	return nil
}

// streams completes the standard streams of a process. Those that it does not have
// are /dev/null; a terminal is its own.
func (p *process) streams(given [3]*os.File, tty bool) (streams [3]*os.File, err error) {
	null := p.launcher.null
	if tty {
		uid := -1
		if c := p.rights.credential; c != nil {
			uid = int(c.Uid)
		}
		p.terminal, null, err = terminal.Open(uid)
	}
	for i := range given {
		if streams[i] = given[i]; given[i] == nil || tty {
			streams[i] = null
		}
	}
	return streams, err
}

// startErrorCode is the exit code that Kubernetes reports for a command that
// could not be executed; with containerd it is the same whatever the cause.
const startErrorCode = 128

func notExecutable(name string, err error) error {
	message := fmt.Sprintf("exec: %q: %v", name, err)
	if errors.Is(err, errNotInPath) {
		message = fmt.Sprintf("exec: %q: executable file not found in $PATH", name)
	}
	return &runner.StartError{Reason: "StartError", Code: startErrorCode, Message: message}
}

var errNotInPath = errors.New("executable file not found in $PATH")

// candidates are the files that may be meant by a command, with the container's
// PATH and in its directory: the first that can be executed is, as by execvp.
// searched is false if the command names its file.
func candidates(name string, env []string, dir string) (paths []string, searched bool) {
	inDir := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	if strings.Contains(name, "/") {
		return []string{inDir(name)}, false
	}
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			for _, in := range filepath.SplitList(value) {
				if len(dir)+len(in)+len(name) >= runner.MaxPath {
					continue // not even the kernel would look there
				}
				if len(paths) == runner.MaxSearched {
					break
				}
				paths = append(paths, filepath.Join(inDir(in), name))
			}
			break
		}
	}
	return paths, true
}

// Terminal implements runner.Process.
func (p *process) Terminal() *os.File { return p.terminal }

// PID implements runner.Process.
func (p *process) PID() int { return p.child.PID() }

// Wait implements runner.Process.
func (p *process) Wait() (runner.ExitInfo, error) {
	// While the process is a zombie, nobody else has its id, group or session.
	if err := p.child.Ended(); err == nil {
		p.adding.Lock()
		p.over = true
		p.adding.Unlock()
		// What a command has left in the background goes on, as Kubernetes has it,
		// until the container ends.
		if !p.added {
			_ = p.child.SignalGroup(syscall.SIGKILL)
			if p.group != nil {
				if err := p.group.Kill(); err != nil {
					p.launcher.env.Log.Error("a container's processes do not end", "container", p.id, "err", err)
				}
			}
			p.launcher.ps.killContainer(p)
		}
	}
	ws, err := p.child.Wait()
	// From now on the number may be another's.
	p.launcher.ps.sessions.CompareAndDelete(p.PID(), p.id)
	if !p.added {
		p.launcher.sweepSoon()
	}
	if err != nil {
		return runner.ExitInfo{}, err
	}
	if err := p.words.collect(); err != nil {
		p.launcher.env.Log.Error("a termination message is lost", "container", p.id, "err", err)
	}
	info := runner.ExitFromWait(ws)
	if p.group != nil && !p.added {
		kills, err := p.group.OOMKills()
		info.OOMKilled = err == nil && kills > 0
	}
	return info, nil
}

// Signal implements runner.Process. The rest of the container is killed when
// its first process has ended, by Wait.
func (p *process) Signal(sig int) error {
	if syscall.Signal(sig) == syscall.SIGKILL {
		if p.added {
			return p.child.SignalSession(syscall.SIGKILL)
		}
		return p.child.SignalGroup(syscall.SIGKILL)
	}
	return p.child.Signal(syscall.Signal(sig))
}

// Exec implements runner.Process.
func (p *process) Exec(ctx context.Context, spec runner.ExecSpec, stdin, stdout, stderr *os.File) (runner.Process, error) {
	p.adding.RLock()
	defer p.adding.RUnlock()
	if p.over {
		return nil, os.ErrProcessDone
	}
	release, ok := p.group.Hold()
	if !ok {
		return nil, os.ErrProcessDone
	}
	defer release()
	added := &process{
		launcher: p.launcher, id: p.id, added: true, group: p.group,
		dir: p.dir, env: p.env, rights: p.rights, oomScore: p.oomScore,
	}
	if err := added.start(ctx, spec.Args, stdin, stdout, stderr, spec.TTY); err != nil {
		return nil, err
	}
	return added, nil
}

// Release implements runner.Process.
func (p *process) Release() error {
	err := p.words.collect()
	if p.group != nil {
		err = errors.Join(err, p.group.Remove())
	}
	return err
}

// LimitsIgnored implements runner.Process.
func (p *process) LimitsIgnored() string { return p.ignored }

// Resize implements runner.Process.
func (p *process) Resize(r runner.Resources) (ignored string, err error) {
	return p.group.ResizeContainer(p.name, r)
}
