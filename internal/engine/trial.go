package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/supervisor"
)

// Trial is a container that is run to see whether the machine lets it, all the way
// that a pod's goes, but without an image.
type Trial struct {
	// Dir is a directory of the trial's own; it exists.
	Dir   string
	Class runner.Class
	Args  []string
	// Shows are files and directories of the machine that the container sees under
	// the same paths (sandbox only).
	Shows []string
}

// Tried is how a Trial went.
type Tried struct {
	// Message is what the command wrote as its termination message.
	Message []byte
	// LimitsIgnored says which limits of memory, cpu and processes are not enforced, and
	// why; "" if all are.
	LimitsIgnored string
	// SharesNetwork says why the container could not have a network of its own; "" if it had,
	// or is of a class that has none.
	SharesNetwork string
}

// stopTrial is how long what a trial has started may take to end.
const stopTrial = 10 * time.Second

// Run runs the container to its end, and leaves nothing of it running or mounted.
func (t Trial) Run(ctx context.Context) (tried Tried, err error) {
	spec, err := t.spec()
	if err != nil {
		return tried, err
	}
	client, err := supervisor.New(filepath.Join(t.Dir, "run"), supervisor.ClientOptions{Private: true})
	if err != nil {
		return tried, err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTrial)
		defer cancel()
		err = errors.Join(err, client.Stop(stopping))
	}()
	if t.Class == runner.Sandbox {
		if _, err := client.Join(ctx, spec.Pod.UID); err == nil {
			spec.PodNetwork = true
		} else {
			tried.SharesNetwork = err.Error()
		}
	}
	if _, err := client.Start(ctx, spec); err != nil {
		return tried, err
	}
	status, err := client.Wait(ctx, spec.ID)
	if err != nil {
		return tried, err
	}
	tried.LimitsIgnored = status.LimitsIgnored
	if tried.Message, err = os.ReadFile(spec.TerminationLog); err != nil {
		return tried, err
	}
	if status.ExitCode != 0 {
		return tried, fmt.Errorf("it ended with exit code %d %s%s", status.ExitCode, status.Reason, status.Message)
	}
	return tried, nil
}

// spec is the container, as a node would ask for it.
func (t Trial) spec() (*runner.Spec, error) {
	root, said := filepath.Join(t.Dir, "root"), filepath.Join(t.Dir, "termination-log")
	if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(said, nil, 0o600)); err != nil {
		return nil, err
	}
	uid := string(t.Class) + "-trial"
	spec := &runner.Spec{
		ID: uid + "_trial_0", Class: t.Class, Container: "trial",
		Pod:  runner.PodRef{Namespace: "default", Name: "trial", UID: uid},
		Args: t.Args, Env: hostEnv(),
		LogPath: filepath.Join(t.Dir, "log"), TerminationLog: said, TerminationLogPath: "/dev/termination-log",
		Resources: runner.Resources{MemoryLimit: 1 << 30, CPUShares: 1024, CPUQuota: 100000, CPUPeriod: 100000, PidsLimit: 1024},
		PodPids:   DefaultPodPids,
	}
	if t.Class == runner.Sandbox {
		spec.Layers = []string{root}
		for _, path := range t.Shows {
			spec.Mounts = append(spec.Mounts, runner.Mount{Source: path, Target: path, ReadOnly: true})
		}
	}
	return spec, nil
}

// Working returns who works on a data directory; ok is false when nobody does.
func Working(dir string) (who Holder, ok bool, err error) { return holderOf(dir) }

// Keeps tells whether a data or image directory could be a user's own, and changes
// nothing. nearest is the directory itself, or, where it is still to be made, what there
// is of the way to it.
func Keeps(dir string) (nearest string, err error) {
	k := newKeeper(nil)
	for path := filepath.Clean(dir); ; path = filepath.Dir(path) {
		real, st, err := k.walk(path, false)
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != "/":
			continue
		case err != nil:
			return "", err
		case path == filepath.Clean(dir):
			return real, k.own(real, st)
		}
		if err := unix.Access(real, unix.W_OK|unix.X_OK); err != nil {
			return real, &fs.PathError{Op: "make a directory in", Path: real, Err: err}
		}
		return real, nil
	}
}

// Trusted refuses a directory in which, or above which, somebody else than root and this
// user could replace what is there.
func Trusted(dir string) error {
	_, _, err := newKeeper(nil).walk(dir, false)
	return err
}
