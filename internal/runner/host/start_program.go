//go:build amd64 || arm64

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// forkExec starts the process in its control group, if it has one. Package fork
// saves some seventy system calls over syscall.ForkExec, and knows what failed. The
// process itself makes its working directory and looks for its command: where
// these are is the manifest's word, and nobody else shall wait for them.
func (p *process) forkExec(ctx context.Context, args []string, streams [3]*os.File, tty bool) (*reap.Child, error) {
	prog := fork.NewProgram()
	defer prog.Close()
	if err := p.begin(prog, streams, tty); err != nil {
		return nil, createError("start: %v", err)
	}
	// Before the change of user: the directories above may be the engine's alone.
	made := prog.Len()
	if p.makeDir {
		prog.Add(hostpath.MakeDirectory(prog, p.dir)...)
	}
	entered := prog.Len()
	prog.Add(fork.Call("enter "+p.dir, unix.SYS_CHDIR, prog.String(p.dir)))
	p.restrict(prog)
	prog.MindParent()
	command := p.command(prog, args)

	child, err := p.launcher.env.Reaper.Start(ctx, func() (int, int, reap.Starting, error) {
		c, err := prog.Start(fork.Options{})
		if err != nil {
			return 0, -1, nil, err
		}
		return c.PID, c.PidFD, c, nil
	})
	var failed *fork.StepError
	stepped := errors.As(err, &failed)
	switch {
	case err == nil:
		return child, nil
	case !stepped && ctx.Err() == nil || fork.OutOfFiles(err):
		// Not the command's fault: the machine, or this process, has not enough of something.
		return nil, createError("start: %v", err)
	case stepped:
		if failed.Index >= made && failed.Index < entered {
			return nil, createError("create the working directory: %v", failed)
		}
		if err := command.explain(prog, failed); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("start: %w", err)
}

// begin is the first part of a program: the control group, a session, and no file
// open but the streams.
func (p *process) begin(prog *fork.Program, streams [3]*os.File, tty bool) error {
	call := func(name string, nr uintptr, args ...uintptr) { prog.Add(fork.Call(name, nr, args...)) }
	call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, prog.Space(8), 0, unsafe.Sizeof(uint64(0)))
	if err := p.enterGroup(prog); err != nil {
		return err
	}
	call("new session", unix.SYS_SETSID)
	for i, f := range streams {
		fd, err := prog.Inherit(int(f.Fd()))
		if err != nil {
			return err
		}
		call("open stream", unix.SYS_DUP3, fd, uintptr(i), 0)
	}
	call("close files", unix.SYS_CLOSE_RANGE, fork.Status+1, 1<<32-1, 0)
	if tty {
		call("set controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	return nil
}

// restrict sets the limits of the process, and makes it its user's.
func (p *process) restrict(prog *fork.Program) {
	call := func(name string, nr uintptr, args ...uintptr) { prog.Add(fork.Call(name, nr, args...)) }
	call("set limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, fork.Place(prog, p.launcher.files), 0)
	if n := p.launcher.processes; n > 0 {
		call("set limit of processes", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, fork.Place(prog, unix.Rlimit{Cur: n, Max: n}), 0)
	}
	p.scoreForOOM(prog)
	if tag := p.launcher.ps.tags.Of(p.launcher.mark(p.id)); tag != 0 {
		call("set tag", unix.SYS_PRLIMIT64, 0, reap.LimitOfLocks, fork.Place(prog, unix.Rlimit{Cur: tag, Max: tag}), 0)
	}
	p.boundCapabilities(prog)
	if c := p.rights.credential; c != nil {
		call("set groups", unix.SYS_SETGROUPS, uintptr(len(c.Groups)), fork.PlaceAll(prog, c.Groups))
		call("set group", unix.SYS_SETRESGID, uintptr(c.Gid), uintptr(c.Gid), uintptr(c.Gid))
		call("set user", unix.SYS_SETRESUID, uintptr(c.Uid), uintptr(c.Uid), uintptr(c.Uid))
	}
	p.dropCapabilities(prog)
	// A change of user clears it.
	call("set parent-death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// command is the end of a program.
type command struct {
	stat, begin int    // steps: the look at a file that was named, and the first of the attempts to execute
	missing     int    // that by which nothing was found in $PATH; -1: nothing was searched for
	path        string // that was named
}

const here = ^uintptr(-unix.AT_FDCWD - 1)

// readHead notes how a file begins that is there, and that the kernel does not find: it names
// what it is to be executed with. It stands between two attempts to execute the file.
func readHead(prog *fork.Program, path uintptr) {
	open := prog.Len()
	prog.Add(
		fork.Call("open", unix.SYS_OPENAT, here, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC).TolerateAll(),
		fork.Call("read", unix.SYS_READ, ^uintptr(0), prog.Note(), fork.NoteSize).TolerateAll())
	prog.Pass(open, open+1, 0)
}

// command executes the command, as the container's user.
func (p *process) command(prog *fork.Program, args []string) command {
	argv, env := prog.Strings(args), prog.Strings(p.env)
	exec := func(path uintptr) fork.Step { return fork.Call("exec", unix.SYS_EXECVE, path, argv, env) }
	paths, searched := candidates(args[0], p.env, p.dir)
	if !searched {
		path := prog.String(paths[0])
		c := command{stat: prog.Len(), begin: prog.Len() + 1, missing: -1, path: paths[0]}
		prog.Add(
			fork.Call("stat", unix.SYS_STATX, here, path, 0, 0, prog.Space(int(unsafe.Sizeof(unix.Statx_t{})))),
			exec(path).Tolerate(unix.EACCES, unix.ENOENT),
			// The kernel says of a directory only that it may not be executed. One that is
			// opened to be written to says what it is.
			fork.Call("is it a directory", unix.SYS_OPENAT, here, path, unix.O_PATH|unix.O_DIRECTORY).TolerateAll().SkipAfter(3))
		readHead(prog, path)
		prog.Add(
			exec(path),
			fork.Call("it is a directory", unix.SYS_OPENAT, here, path, unix.O_WRONLY))
		return c
	}
	c := command{stat: -1, begin: prog.Len()}
	for _, candidate := range paths {
		path := prog.String(candidate)
		prog.Add(
			fork.Call("access", unix.SYS_FACCESSAT, here, path, unix.X_OK).TolerateAll().SkipAfter(1),
			fork.Call("go on", unix.SYS_GETPID).SkipAfter(4),
			exec(path).Tolerate(unix.EACCES, unix.ENOENT))
		readHead(prog, path)
		prog.Add(exec(path).Tolerate(unix.EACCES)) // a directory
	}
	c.missing = prog.Len()
	prog.Add(fork.Call("search", unix.SYS_CHDIR, prog.String("")))
	return c
}

// explain returns why there is no command, nil if that is not what has failed.
func (c *command) explain(prog *fork.Program, failed *fork.StepError) error {
	switch {
	case failed.Index == c.missing:
		return errNotInPath
	case failed.Index == c.stat:
		return &os.PathError{Op: "stat", Path: c.path, Err: failed.Errno}
	case failed.Index < c.begin:
		return nil
	case failed.Errno == unix.ENOENT && prog.Errno(failed.Index-1) == 0: // what comes before has read it
		if why := runner.MissingInterpreter(prog.Noted()); why != "" {
			return fmt.Errorf("%w: %s", failed.Errno, why)
		}
	}
	return failed.Errno
}

// enterGroup puts the process into its control group: one of version 2 by birth.
func (p *process) enterGroup(prog *fork.Program) error {
	if p.group == nil {
		return nil
	}
	files, err := p.group.ProcsFDs()
	if err != nil {
		return err
	}
	for _, file := range files {
		fd, err := prog.Inherit(file)
		if err != nil {
			return err
		}
		prog.Add(fork.Call("enter cgroup", unix.SYS_WRITE, fd, prog.String("0"), 1))
	}
	if !p.group.Unified() {
		return nil
	}
	return prog.SplitInto(p.group.FD(), 0)
}

// scoreForOOM makes the kernel prefer the container to the supervisor and the
// engine when memory runs out, as in a sandbox.
func (p *process) scoreForOOM(prog *fork.Program) {
	const path = "/proc/self/oom_score_adj"
	text, open := strconv.FormatInt(p.oomScore, 10), prog.Len()
	prog.Add(
		fork.Call("open "+path, unix.SYS_OPENAT, ^uintptr(-unix.AT_FDCWD-1), prog.String(path), unix.O_WRONLY|unix.O_CLOEXEC).TolerateAll(),
		fork.Call("write "+path, unix.SYS_WRITE, ^uintptr(0), prog.String(text), uintptr(len(text))).TolerateAll())
	prog.Pass(open, open+1, 0)
}

// boundCapabilities takes away what no program shall be able to get back. It
// comes before the change of user, for which capabilities are needed too.
func (p *process) boundCapabilities(prog *fork.Program) {
	r, caps := &p.rights, &p.launcher.caps
	if r.noNewPrivs {
		prog.Add(fork.Call("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	}
	if !r.confined || !caps.bounds {
		return
	}
	for n := 0; n <= caps.last; n++ {
		if r.keep&(1<<n) == 0 {
			prog.Add(fork.Call("drop capability", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0))
		}
	}
}

// dropCapabilities takes away what the process has itself. A user other than
// root keeps nothing, as in a sandbox.
func (p *process) dropCapabilities(prog *fork.Program) {
	r := &p.rights
	if !r.confined {
		return
	}
	keep, uid := r.keep, uint32(os.Geteuid())
	if r.credential != nil {
		uid = r.credential.Uid
	}
	if uid != 0 {
		keep = 0
	}
	header := fork.Place(prog, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	data := fork.Place(prog, [2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)},
		{Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	})
	prog.Add(
		fork.Call("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0).TolerateAll(),
		fork.Call("set capabilities", unix.SYS_CAPSET, header, data))
}

const canLimit = true
