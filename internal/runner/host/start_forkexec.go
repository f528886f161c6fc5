//go:build !amd64 && !arm64

package host

import (
	"context"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// forkExec starts the process by the means of Go's library, on processors that
// package fork does not know.
func (p *process) forkExec(_ context.Context, args []string, streams [3]*os.File, tty bool) (*reap.Child, error) {
	if p.rights.noNewPrivs || p.rights.confined {
		return nil, configError("the host runtime cannot take rights from a process on %s", runtime.GOARCH)
	}
	if p.makeDir {
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			return nil, createError("create the working directory: %v", err)
		}
	}
	path, err := lookPath(args[0], p.env, p.dir)
	if err != nil {
		return nil, err
	}
	return p.launcher.env.Reaper.ForkExec(path, args, &syscall.ProcAttr{
		Dir: p.dir, Env: p.env,
		Files: []uintptr{streams[0].Fd(), streams[1].Fd(), streams[2].Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid: true, Setctty: tty, Ctty: 0, Pdeathsig: syscall.SIGKILL, Credential: p.rights.credential,
		},
	})
}

// lookPath finds a command.
func lookPath(name string, env []string, dir string) (string, error) {
	paths, searched := candidates(name, env, dir)
	for _, path := range paths {
		if err := executable(path); err == nil || !searched {
			return path, err
		}
	}
	return "", errNotInPath
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return syscall.EISDIR
	case info.Mode()&0o111 == 0:
		return fs.ErrPermission
	}
	return nil
}

const canLimit = false
