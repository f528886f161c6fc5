package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// process has the standard streams of one.
type process struct {
	in    io.Reader // nil: it has no input
	input *io.PipeWriter
	write func(crilog.Stream, string)

	mu       sync.Mutex
	attached map[*stdio.Streams]bool
}

// perform does the steps and returns 0, or the signal that interrupted them.
func perform(steps []Step, std *process, signals <-chan int) int {
	for _, step := range steps {
		std.write(crilog.Stdout, step.Stdout)
		std.write(crilog.Stderr, step.Stderr)
		sig := 0
		if step.Cat {
			sig = await(std.cat(), signals)
		}
		if step.Sleep > 0 && sig == 0 {
			timer := time.NewTimer(step.Sleep)
			sig = await(timer.C, signals)
			timer.Stop()
		}
		if step.Wait != nil && sig == 0 {
			sig = await(step.Wait, signals)
		}
		if sig != 0 {
			return sig
		}
	}
	select {
	case sig := <-signals:
		return sig
	default:
		return 0
	}
}

// await returns 0 when what is waited for comes, or the signal that comes before.
func await[T any](what <-chan T, signals <-chan int) int {
	select {
	case <-what:
		return 0
	case sig := <-signals:
		return sig
	}
}

// cat copies the input until its end, when it closes what it returns.
func (std *process) cat() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if std.in == nil {
			return
		}
		buf := make([]byte, 32<<10)
		for {
			n, err := std.in.Read(buf)
			std.write(crilog.Stdout, string(buf[:n]))
			if err != nil {
				return
			}
		}
	}()
	return done
}

// tell hands output over to those who are attached.
func (std *process) tell(stream crilog.Stream, text string) {
	std.mu.Lock()
	defer std.mu.Unlock()
	for s := range std.attached {
		write(*s, stream, text)
	}
}

func (std *process) attach(s *stdio.Streams, is bool) {
	std.mu.Lock()
	defer std.mu.Unlock()
	if std.attached == nil {
		std.attached = make(map[*stdio.Streams]bool)
	}
	if delete(std.attached, s); is {
		std.attached[s] = true
	}
}

// end ends the input, if there is any.
func (std *process) end() {
	if std.input != nil {
		std.input.Close()
	}
}

func write(s stdio.Streams, stream crilog.Stream, text string) {
	w := s.Stdout
	if stream == crilog.Stderr {
		w = s.Stderr
	}
	if w != nil && text != "" {
		_, _ = io.WriteString(w, text)
	}
}

func (c *container) write(stream crilog.Stream, text string) {
	if c.log != nil && text != "" {
		_ = c.log.Write(stream, []byte(text))
	}
	c.std.tell(stream, text)
}

// running returns a container that runs.
func (r *Runner) running(id string) (*container, error) {
	c, err := r.find(id)
	if err == nil && isClosed(c.ended) {
		err = fmt.Errorf("container %s: %w", id, runner.ErrEnded)
	}
	return c, err
}

// Exec implements runner.Runner.
func (r *Runner) Exec(ctx context.Context, id string, cmd runner.ExecSpec, streams stdio.Streams) (runner.ExitInfo, error) {
	c, err := r.running(id)
	if err != nil {
		return runner.ExitInfo{}, err
	}
	if hook := c.script.Exec; hook != nil {
		res, err := hook(ctx, cmd)
		write(streams, crilog.Stdout, string(res.Output))
		if res.TimedOut {
			err = runner.ErrTimeout
		}
		return runner.ExitInfo{Code: res.ExitCode}, err
	}
	return c.exec(ctx, cmd, streams)
}

// exec does what Shell says about a command in the container.
func (c *container) exec(ctx context.Context, cmd runner.ExecSpec, streams stdio.Streams) (runner.ExitInfo, error) {
	script := Shell(&runner.Spec{Args: cmd.Args, Env: c.spec.Env})
	if script.StartError != nil {
		return runner.ExitInfo{}, script.StartError
	}
	stop := make(chan int, 2)
	kill := func() { stop <- int(syscall.SIGKILL) }
	defer context.AfterFunc(ctx, kill)()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-c.ended:
			kill()
		case <-over:
		}
	}()
	std := &process{in: streams.Stdin, write: func(stream crilog.Stream, text string) { write(streams, stream, text) }}
	sig := perform(script.Steps, std, stop)
	if ctx.Err() != nil {
		return runner.ExitInfo{}, context.Cause(ctx)
	}
	if sig == 0 {
		sig = script.Signal
	}
	if sig != 0 {
		return runner.ExitInfo{Code: 128 + sig, Signal: sig}, nil
	}
	return runner.ExitInfo{Code: script.Exit}, nil
}

// Attach implements runner.Runner. Its clients are never slow.
func (r *Runner) Attach(ctx context.Context, id string, streams stdio.Streams) error {
	c, err := r.running(id)
	if err != nil {
		return err
	}
	c.std.attach(&streams, true)
	defer c.std.attach(&streams, false)
	fed := make(chan struct{})
	if c.std.input != nil && streams.Stdin != nil {
		go func() {
			defer close(fed)
			_, _ = io.Copy(c.std.input, streams.Stdin)
		}()
		if c.spec.StdinOnce {
			defer c.std.end()
		}
	}
	for {
		select {
		case <-fed:
			if !c.spec.StdinOnce {
				return nil
			}
			c.std.end()
			fed = nil
		case <-c.ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Dial implements runner.Runner: who listens is in the Script.
func (r *Runner) Dial(_ context.Context, to runner.Target) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := fmt.Errorf("pod %s: no container runs: %w", to.PodUID, runner.ErrNotFound)
	for _, c := range r.containers {
		if c.spec.Pod.UID != to.PodUID || c.status.Phase != runner.Running {
			continue
		}
		if serve := c.script.Ports[to.Port]; serve != nil {
			mine, theirs := net.Pipe()
			go serve(theirs)
			return mine, nil
		}
		err = errors.New("connection refused")
	}
	return nil, err
}
