package supervisor

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// maxExecOutput is how much of a command's output is kept; a kubelet keeps as
// much of a probe's.
const maxExecOutput = 10 << 10

// exec runs a command inside a container until its end, its timeout or the end
// of ctx.
func (s *Supervisor) exec(ctx context.Context, req execRequest) (runner.ExecResult, error) {
	proc, err := s.running(req.ID)
	if err != nil {
		return runner.ExecResult{}, err
	}
	mine, theirs, err := pipe()
	if err != nil {
		return runner.ExecResult{}, err
	}
	defer mine.Close()
	starting := ctx
	if req.Exec.Timeout > 0 {
		var cancel context.CancelFunc
		starting, cancel = context.WithTimeout(ctx, req.Exec.Timeout)
		defer cancel()
	}
	child, err := proc.Exec(starting, req.Exec, nil, theirs, theirs)
	theirs.Close()
	if errors.Is(err, os.ErrProcessDone) {
		return runner.ExecResult{}, errorf(req.ID, runner.ErrEnded)
	}
	if err != nil && starting.Err() != nil && ctx.Err() == nil {
		return runner.ExecResult{TimedOut: true}, nil
	}
	if err != nil {
		return runner.ExecResult{}, err
	}
	output := make(chan []byte, 1)
	go func() { output <- readOutput(mine) }()
	ended := make(chan struct{})
	var exit runner.ExitInfo
	go func() {
		defer close(ended)
		exit, err = child.Wait()
	}()

	var timeout <-chan time.Time
	if req.Exec.Timeout > 0 {
		timer := time.NewTimer(req.Exec.Timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	var res runner.ExecResult
	cut := false
	select {
	case <-ended:
	case <-ctx.Done():
		cut = true
	case <-timeout:
		cut, res.TimedOut = true, true
	}
	if cut {
		_ = child.Signal(int(syscall.SIGKILL))
		select {
		case <-ended:
		case <-time.After(killPatience):
			// The container traces it, and does not let it go: its own affair.
			return res, errorf(req.ID, errUnending)
		}
	}
	if ctx.Err() != nil && !res.TimedOut {
		err = errors.Join(err, context.Cause(ctx))
	}
	// What the command wrote is in the pipe. A background process of its own may
	// hold it open for ever; it gets a moment, as one that is just ending would.
	_ = mine.SetReadDeadline(time.Now().Add(execDrain))
	res.ExitCode, res.Output = exit.Code, <-output
	return res, err
}

// killPatience is how long a command that has been killed is waited for.
const killPatience = 2 * time.Second

// errUnending is what comes of a command that does not end when it is killed.
var errUnending = errors.New("the command was killed and does not end")

const execDrain = 50 * time.Millisecond

// readOutput reads to the end, or the deadline, and keeps the beginning.
func readOutput(f *os.File) []byte {
	kept := make([]byte, 0, 512)
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		kept = append(kept, buf[:min(n, maxExecOutput-len(kept))]...)
		if err != nil {
			return kept
		}
	}
}
