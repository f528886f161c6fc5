package supervisor

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// begin starts a command inside a container. The files stay the caller's.
func (s *Supervisor) begin(ctx context.Context, id string, cmd runner.ExecSpec, std [3]*os.File) (runner.Process, error) {
	proc, err := s.running(id)
	if err != nil {
		return nil, err
	}
	child, err := proc.Exec(ctx, cmd, std[0], std[1], std[2])
	if errors.Is(err, os.ErrProcessDone) {
		return nil, errorf(id, runner.ErrEnded)
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return child, err
}

// killPatience is how long a command that has been killed is waited for.
const killPatience = 2 * time.Second

// errUnending is what comes of a command that does not end when it is killed.
var errUnending = errors.New("the command was killed and does not end")

// await returns how a command has ended. When ctx ends before, the command is
// killed.
func await(ctx context.Context, id string, child runner.Process) (runner.ExitInfo, error) {
	type end struct {
		exit runner.ExitInfo
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		exit, err := child.Wait()
		ended <- end{exit, err}
	}()
	select {
	case e := <-ended:
		return e.exit, e.err
	case <-ctx.Done():
	}
	_ = child.Signal(int(syscall.SIGKILL))
	select {
	case <-ended:
		return runner.ExitInfo{}, context.Cause(ctx)
	case <-time.After(killPatience):
		// The container traces it, and does not let it go: its own affair.
		return runner.ExitInfo{}, errorf(id, errUnending)
	}
}

// Exec implements runner.Executor, for clients that speak no version above 2.
func (s *Supervisor) Exec(ctx context.Context, id string, cmd runner.ExecSpec, streams stdio.Streams) (runner.ExitInfo, error) {
	p, err := plumb(streams, 0)
	if err != nil {
		return runner.ExitInfo{}, err
	}
	defer p.close()
	defer p.closeTheirs()
	var std [3]*os.File
	for i, n := range p.index {
		if n >= 0 {
			std[i] = p.theirs[n]
		}
	}
	child, err := s.begin(ctx, id, cmd, std)
	if err != nil {
		return runner.ExitInfo{}, err
	}
	p.closeTheirs()
	exit, err := await(ctx, id, child)
	p.finish(ctx, cmd.WaitDelay)
	return exit, err
}
