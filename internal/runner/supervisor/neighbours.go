package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
)

// Neighbours are the supervisors of class sandbox of the nodes of one machine. They have in common
// what pods of different nodes meet in: a hub (see package network) and, where an ordinary user's
// supervisors are in a user namespace, that one, since nobody else has rights at both ends of a
// link between two.
//
// A supervisor is born into both. It gets them from one that runs, and makes them when none does:
// there is nobody whom they belong to, and they are gone with the last one.
type Neighbours struct {
	dirs []string

	mu sync.Mutex // held while one is started: the next one has to find it
}

// NewNeighbours returns those of the nodes whose supervisors have these directories.
func NewNeighbours(dirs ...string) *Neighbours { return &Neighbours{dirs: dirs} }

// neighbourTime is how long one that runs may take to answer, or to listen after its start.
const neighbourTime = 5 * time.Second

// neighbour is what a supervisor gets from another.
type neighbour struct {
	hub  *os.File
	user *os.File // the user namespace; nil: this process's own
}

func (n *neighbour) close() {
	for _, f := range []*os.File{n.hub, n.user} {
		if f != nil {
			f.Close()
		}
	}
}

// of returns what the supervisor of a directory gets from its neighbours: nothing, if there are
// none, or none of them gives anything, with the reason.
func (n *Neighbours) of(dir string) (neighbour, error) {
	var errs []error
	for _, other := range n.dirs {
		home := filepath.Join(other, string(runner.Sandbox))
		if other == dir || !held(filepath.Join(home, "lock")) {
			continue
		}
		one, err := ask(home)
		if err == nil {
			return one, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", home, err))
	}
	return neighbour{}, errors.Join(errs...)
}

// ask asks the supervisor of a class's directory.
func ask(home string) (one neighbour, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), neighbourTime)
	defer cancel()
	conn, err := dial(home)
	for err != nil && ctx.Err() == nil { // it has just been started
		time.Sleep(5 * time.Millisecond)
		conn, err = dial(home)
	}
	if err != nil {
		return one, err
	}
	c := &call{conn: conn}
	defer c.close()
	if err := sendWith(conn, verbHub, nil); err != nil {
		return one, err
	}
	err = c.await(ctx, nil, func(_ frame, file *os.File) {
		if one.hub == nil {
			one.hub = file
		}
	})
	if err == nil && one.hub == nil {
		err = errLost
	}
	if err == nil {
		one.user, err = userNamespace(conn)
	}
	if err != nil {
		one.close()
		return neighbour{}, err
	}
	return one, nil
}

// userNamespace opens the user namespace of who listens at the other end, nil if it is ours.
func userNamespace(conn interface {
	File() (*os.File, error)
}) (*os.File, error) {
	file, err := conn.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	peer, err := unix.GetsockoptUcred(int(file.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	theirs, err := os.Open(filepath.Join("/proc", strconv.Itoa(int(peer.Pid)), "ns/user"))
	if err != nil {
		return nil, err
	}
	a, err := theirs.Stat()
	b, err2 := os.Stat("/proc/self/ns/user")
	if err = errors.Join(err, err2); err != nil || os.SameFile(a, b) {
		theirs.Close()
		return nil, err
	}
	return theirs, nil
}

// spawnBeside is spawn for who may have neighbours.
func (n *Neighbours) spawnBeside(opts Options, command Command, log *slog.Logger) error {
	if n == nil || opts.Private || opts.Class != runner.Sandbox {
		return spawn(opts, command)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	beside, err := n.of(opts.Dir)
	if err == nil {
		defer beside.close()
		opts.hub = beside.hub
		if beside.user == nil {
			return spawn(opts, command)
		}
		opts.user = beside.user
		if err = spawnWith(opts, command, nil, nil); err == nil || errors.Is(err, errHeld) {
			return err
		}
		opts.hub, opts.user = nil, nil
	}
	log.Warn("pods of this node do not reach those of the machine's other nodes", "path", opts.Dir, "err", err)
	return spawn(opts, command)
}

// startIn starts a command in a user namespace, and a mount namespace and session of its own. Only
// a process that has a single thread can go there, so that Go itself cannot start one that way.
func startIn(user *os.File, cmd *exec.Cmd) (wait func(), err error) {
	exe, err := unix.Open(cmd.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: cmd.Path, Err: err}
	}
	defer unix.Close(exe)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p := fork.NewProgram()
	defer p.Close()
	fds := []int{exe, int(user.Fd()), int(null.Fd()), int(null.Fd()), int(cmd.Stderr.(*os.File).Fd())}
	for _, f := range cmd.ExtraFiles {
		fds = append(fds, int(f.Fd()))
	}
	at := make([]uintptr, len(fds))
	for i, fd := range fds {
		if at[i], err = p.Inherit(fd); err != nil {
			return nil, err
		}
	}
	p.Add(
		fork.Call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Space(8), 0, 8),
		fork.Call("join the user namespace of another node", unix.SYS_SETNS, at[1], unix.CLONE_NEWUSER),
		fork.Call("unshare mounts", unix.SYS_UNSHARE, unix.CLONE_NEWNS),
		fork.Call("new session", unix.SYS_SETSID),
		fork.Call("chdir", unix.SYS_CHDIR, p.String(cmd.Dir)),
		fork.Call("mark the program", unix.SYS_FCNTL, at[0], unix.F_SETFD, unix.FD_CLOEXEC),
	)
	for i, fd := range at[2:] { // the last of all is the way to tell of failures
		if i != fork.Status {
			p.Add(fork.Call("open a file", unix.SYS_DUP3, fd, uintptr(i), 0))
		}
	}
	p.Add(
		fork.Call("open a file", unix.SYS_DUP3, at[2+fork.Status], fork.Status, 0),
		fork.Call("close files", unix.SYS_CLOSE_RANGE, uintptr(len(at)-2), uintptr(fork.FirstInherited-1), 0).TolerateAll(),
		fork.Call("mark files", unix.SYS_CLOSE_RANGE, fork.FirstInherited, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC).TolerateAll(),
		fork.Call("exec", unix.SYS_EXECVEAT, at[0], p.String(""), p.Strings(cmd.Args), p.Strings(cmd.Env), unix.AT_EMPTY_PATH),
	)
	child, err := p.Start(fork.Options{})
	if err != nil {
		return nil, err
	}
	wait = func() {
		_, _ = unix.Wait4(child.PID, nil, 0, nil)
		_ = unix.Close(child.PidFD)
	}
	if _, err := child.Await(context.Background()); err != nil {
		wait()
		return nil, err
	}
	return wait, nil
}
