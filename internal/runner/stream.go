package runner

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/stdio"
)

// ExecSpec is a command to run inside a container, as its user.
type ExecSpec struct {
	Args []string
	// TTY gives the command a terminal of its own as its standard streams, which is
	// its controlling one. What it writes is all on stdout then.
	TTY bool
	// WaitDelay is how long output is waited for when the command has ended, of which
	// something in the background may go on writing; 0: until nobody can any more,
	// as Kubernetes does. What was written by then is never lost.
	WaitDelay time.Duration
}

// ExecResult is how a command ended, and what it wrote first.
type ExecResult struct {
	ExitCode int
	Output   []byte // stdout and stderr together
	TimedOut bool
}

// Executor is what ExecOutput needs of a Runner.
type Executor interface {
	Exec(ctx context.Context, id string, cmd ExecSpec, streams stdio.Streams) (ExitInfo, error)
}

const (
	// maxExecOutput is how much of a command's output is kept; a kubelet keeps as much
	// of a probe's.
	maxExecOutput = 10 << 10
	// execDrain is how long the output of a command is waited for that has left
	// something in the background.
	execDrain = 50 * time.Millisecond
)

// ErrTimeout is why ExecOutput ends a command.
var ErrTimeout = errors.New("the command took too long")

// ExecOutput runs a command without input, as probes and hooks do, and returns the
// first 10 KiB of what it wrote. One that takes longer than timeout is killed, which
// is no error; 0: it may take as long as ctx. Errors are those of Runner.Exec.
func ExecOutput(ctx context.Context, r Executor, id string, args []string, timeout time.Duration) (ExecResult, error) {
	timed := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		timed, cancel = context.WithTimeoutCause(ctx, timeout, ErrTimeout)
		defer cancel()
	}
	var out head
	exit, err := r.Exec(timed, id, ExecSpec{Args: args, WaitDelay: execDrain}, stdio.Streams{Stdout: &out, Stderr: &out})
	if errors.Is(err, ErrTimeout) {
		return ExecResult{Output: out.bytes(), TimedOut: true}, nil
	}
	if err != nil {
		return ExecResult{}, err
	}
	return ExecResult{ExitCode: exit.Code, Output: out.bytes()}, nil
}

// head keeps the beginning of what is written to it.
type head struct {
	mu   sync.Mutex
	kept []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, p[:min(len(p), maxExecOutput-len(h.kept))]...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom: most commands have little to say, and io.Copy
// takes 32 KiB for each.
func (h *head) ReadFrom(r io.Reader) (total int64, err error) {
	buf := make([]byte, 2<<10)
	for {
		n, err := r.Read(buf)
		_, _ = h.Write(buf[:n])
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// bytes is what has been kept so far: a write that is late adds to it no more.
func (h *head) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.kept[:len(h.kept):len(h.kept)]
}
