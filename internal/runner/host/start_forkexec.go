//go:build !amd64 && !arm64

package host

import (
	"context"
	"os"
	"runtime"
	"syscall"

	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// forkExec starts the process by the means of Go's library, on processors that
// package fork does not know.
func (p *process) forkExec(_ context.Context, path string, args []string, streams [3]*os.File, tty bool) (*reap.Child, error) {
	if p.rights.noNewPrivs || p.rights.confined {
		return nil, configError("the host runtime cannot take rights from a process on %s", runtime.GOARCH)
	}
	return p.launcher.env.Reaper.ForkExec(path, args, &syscall.ProcAttr{
		Dir: p.dir, Env: p.env,
		Files: []uintptr{streams[0].Fd(), streams[1].Fd(), streams[2].Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid: true, Setctty: tty, Ctty: 0, Pdeathsig: syscall.SIGKILL, Credential: p.rights.credential,
		},
	})
}

const canLimit = false
