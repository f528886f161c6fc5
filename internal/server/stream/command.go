package stream

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"

	"github.com/sampan-batch/sampan/internal/stdio"
)

// streams are those that a client announces.
type streams struct{ stdin, stdout, stderr, tty bool }

// query is how a kubelet is told of them.
func (s streams) query() url.Values {
	q := url.Values{}
	for name, wanted := range map[string]bool{
		remotecommand.ExecStdinParam: s.stdin, remotecommand.ExecStdoutParam: s.stdout,
		remotecommand.ExecStderrParam: s.stderr, remotecommand.ExecTTYParam: s.tty,
	} {
		if wanted {
			q.Set(name, "1")
		}
	}
	return q
}

// command is what the library calls when a client's streams are there. The contexts
// that it hands over say nothing: its connection has been taken from the HTTP server.
type command struct {
	ctx context.Context
	run func(context.Context, stdio.Streams) (exit int, err error)
}

// ExecInContainer implements remotecommand.Executor.
func (c command) ExecInContainer(_ context.Context, _, _, _ string, _ []string, in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	code, failed := c.run(ctx, bring(ctx, in, out, err, resize))
	if failed == nil && code != 0 {
		return exec.CodeExitError{Code: code, Err: fmt.Errorf("command terminated with exit code %d", code)}
	}
	return failed
}

// AttachContainer implements remotecommand.Attacher.
func (c command) AttachContainer(_ context.Context, _, _, _ string, in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	_, failed := c.run(ctx, bring(ctx, in, out, err, resize))
	return failed
}

// bring returns the library's streams as ours, until ctx ends. A stream that the client
// has not announced is nil in both.
func bring(ctx context.Context, in io.Reader, out, err io.Writer, resize <-chan remotecommand.TerminalSize) stdio.Streams {
	s := stdio.Streams{Stdin: in, Stdout: out, Stderr: err}
	if resize == nil {
		return s
	}
	sizes := make(chan stdio.Size)
	s.Resize = sizes
	go func() {
		for {
			select {
			case size, ok := <-resize:
				if !ok {
					return
				}
				select {
				case sizes <- stdio.Size{Width: size.Width, Height: size.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return s
}
