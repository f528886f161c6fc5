package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/host"
	"github.com/sampan-batch/sampan/internal/runner/sandbox"
	"github.com/sampan-batch/sampan/internal/runner/supervisor"
	"github.com/sampan-batch/sampan/internal/tree"
)

// Events live for an hour, as with Kubernetes' --event-ttl; beyond maxEvents
// the oldest go earlier.
const (
	eventTTL  = time.Hour
	maxEvents = 20000
)

// engineGrace is how long an engine may take to end after SIGTERM.
const engineGrace = 20 * time.Second

// Stop ends the engine that works on dir, then its pods, which get SIGTERM and
// the grace period, and the supervisors. It returns what it did, for people.
func Stop(ctx context.Context, dir string, grace time.Duration) (string, error) {
	dir, err := ownDir(dir)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	stopped, err := endEngine(ctx, dir)
	if err != nil {
		return "", err
	}
	lock, err := lockToStop(dir, "sampan stop")
	if err != nil {
		return "", err
	}
	defer lock.release()
	did, err := endNodes(ctx, dir, grace)
	if err != nil {
		return "", err
	}
	text := whatStopped(stopped, did.containers, did.found)
	if did.remains != nil {
		text += "\nwarning: " + did.remains.Error()
	}
	return text, nil
}

// ending is what a Stop has ended besides the engine.
type ending struct {
	containers int
	found      []runner.Class // of the supervisors that were there
	remains    error          // what is left of them; all has ended
}

// endNodes ends the pods and the supervisors of all nodes, at the same time: the pods of each
// have the whole grace period.
func endNodes(ctx context.Context, dir string, grace time.Duration) (did ending, err error) {
	all, err := homes(dir)
	if err != nil {
		return did, err
	}
	each, errs := make([]ending, len(all)), make([]error, len(all))
	var nodes sync.WaitGroup
	for i, home := range all {
		nodes.Go(func() { errs[i] = each[i].home(ctx, home, grace) })
	}
	nodes.Wait()
	for _, e := range each {
		did.containers += e.containers
		for _, class := range e.found {
			if !slices.Contains(did.found, class) {
				did.found = append(did.found, class)
			}
		}
		did.remains = errors.Join(did.remains, e.remains)
	}
	return did, errors.Join(errs...)
}

// home ends the pods and the supervisors of one node.
func (e *ending) home(ctx context.Context, dir string, grace time.Duration) error {
	client, err := supervisor.Open(ctx, filepath.Join(dir, "run"), supervisor.ClientOptions{
		// Where nothing can be written, nothing can be started to clear up with.
		Running: unwritable(unix.Access(dir, unix.W_OK)),
	})
	if err != nil {
		return err
	}
	e.found = client.Found()
	ended, err := endPods(ctx, client, grace)
	e.containers = ended
	stopErr := client.Stop(ctx)
	if errors.Is(stopErr, runner.ErrRemains) { // said, but all has ended
		e.remains, stopErr = stopErr, nil
	}
	return errors.Join(err, stopErr)
}

// whatStopped says what Stop has ended.
func whatStopped(stopped bool, ended int, found []runner.Class) string {
	containers := "containers"
	if ended == 1 {
		containers = "container"
	}
	switch {
	case stopped && ended > 0:
		return fmt.Sprintf("stopped the engine and ended %d %s", ended, containers)
	case stopped:
		return "stopped the engine; no container was running"
	case ended > 0:
		return fmt.Sprintf("no engine was running; ended %d %s", ended, containers)
	case len(found) == 1:
		return fmt.Sprintf("no engine was running; ended the supervisor of class %s, which kept no container", found[0])
	case len(found) > 1:
		return "no engine was running; ended the supervisors of all classes, which kept no container"
	}
	return "nothing was running"
}

// Discard removes the data directory of a private engine that has ended. The
// error says in one line what of it remains, and why.
func Discard(dir string) error { return tree.Remove(dir) }

// endEngine sends SIGTERM to whoever holds dir, and waits until it let go.
func endEngine(ctx context.Context, dir string) (bool, error) {
	holder, held, err := holderOf(dir)
	if err != nil || !held {
		return false, err
	}
	if holder.PID <= 0 {
		return false, fmt.Errorf("%s is held by a process that did not say who it is: find it with `fuser %[1]s`, end it and try again", lockPath(dir))
	}
	if err := unix.Kill(holder.PID, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("end %s: %w", holder, err)
	}
	deadline := time.Now().Add(engineGrace)
	for {
		if _, held, err = holderOf(dir); err != nil || !held {
			return true, err
		}
		if time.Now().After(deadline) {
			return false, fmt.Errorf("%s did not end within %s after SIGTERM", holder, engineGrace)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// endPods asks every container to end and waits for it, at most for grace. It
// returns how many were running.
func endPods(ctx context.Context, client *supervisor.Client, grace time.Duration) (int, error) {
	all, err := client.List(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	var running []string
	for _, c := range all {
		if c.Phase == runner.Running {
			running = append(running, c.ID)
			_ = client.Signal(ctx, c.ID, int(unix.SIGTERM)) // it may just have ended
		}
	}
	for _, id := range running {
		if _, err := client.Wait(ctx, id); err != nil {
			break // out of time: Stop kills the rest
		}
	}
	return len(running), nil
}

// Supervise is the process that owns the containers of one class; args are what
// the supervisor's client gave it.
func Supervise(ctx context.Context, args []string) error {
	opts, err := supervisor.ParseArgs(args)
	if err != nil {
		return err
	}
	opts.Launchers = map[runner.Class]func(runner.LauncherEnv) (runner.Launcher, error){
		runner.Sandbox: func(env runner.LauncherEnv) (runner.Launcher, error) { return sandbox.New(env) },
		runner.Host:    func(env runner.LauncherEnv) (runner.Launcher, error) { return host.New(env) },
	}
	quiet, stop := context.WithCancel(ctx)
	defer stop()
	go givesBack{allocated: allocated, free: freeMemory}.run(quiet)
	return supervisor.Main(ctx, opts)
}
