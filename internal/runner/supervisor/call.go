package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// call is the client's end of a stream; see stream.go.
type call struct{ conn *net.UnixConn }

// open sends the request of a stream, on a connection of its own.
func (l *link) open(v verb, req any, files ...*os.File) (*call, error) {
	raw, err := dial(l.opts.home())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	c := &call{conn: raw}
	if err := sendWith(c.conn, v, req, files...); err != nil {
		c.close()
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return c, nil
}

func (c *call) close() { c.conn.Close() }

// await returns when the stream has ended, with what the supervisor says of it in
// answer. begun gets what comes for the client; it is then begun's to close.
func (c *call) await(ctx context.Context, answer any, begun func(frame, *os.File)) error {
	return c.awaitAll(ctx, answer, func(f frame, files []*os.File) {
		var file *os.File
		if len(files) > 0 {
			file = files[0]
			closeFiles(files[1:])
		}
		begun(f, file)
	})
}

// awaitAll is await for who is sent more than one descriptor.
func (c *call) awaitAll(ctx context.Context, answer any, begun func(frame, []*os.File)) error {
	stop := context.AfterFunc(ctx, c.cancel)
	defer stop()
	for {
		f, files, err := receive(c.conn)
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return errLost
		case f.verb == verbBegun:
			begun(f, files)
			continue
		}
		closeFiles(files)
		switch {
		case ctx.Err() != nil: // whatever became of it
			return context.Cause(ctx)
		case f.verb == verbError:
			return decodeError(f)
		case answer == nil:
			return nil
		}
		return json.Unmarshal(f.body, answer)
	}
}

// cancel lets the supervisor know that the client wants no more, and gives it the
// time to end what there is.
func (c *call) cancel() {
	_ = c.conn.CloseWrite()
	_ = c.conn.SetReadDeadline(time.Now().Add(killPatience + time.Second))
}

// Exec implements runner.Runner.
func (c *Client) Exec(ctx context.Context, id string, cmd runner.ExecSpec, streams stdio.Streams) (exit runner.ExitInfo, err error) {
	l, err := c.having(ctx, id)
	if err != nil {
		return exit, err
	}
	if conn, err := l.connected(ctx); err != nil || conn.protocol < 3 {
		return conn.formerExec(ctx, id, cmd, streams, err)
	}
	mine := streams
	if cmd.TTY {
		mine = stdio.Streams{Resize: streams.Resize}
	}
	p, err := plumb(mine, 0)
	if err != nil {
		return exit, err
	}
	defer p.close()
	stream, err := l.open(verbRun, &runRequest{ID: id, Args: cmd.Args, TTY: cmd.TTY, Files: p.index}, p.theirs...)
	p.closeTheirs()
	if err != nil {
		return exit, err
	}
	defer stream.close()
	p.feed()
	err = stream.await(ctx, &exit, func(_ frame, tty *os.File) {
		p.streams = streams
		p.useTerminal(tty)
	})
	p.finish(ctx, cmd.WaitDelay)
	return exit, err
}

// formerExec executes a command by a supervisor of a former version: without input
// or terminal, as probes and hooks are.
func (c *connection) formerExec(ctx context.Context, id string, cmd runner.ExecSpec, streams stdio.Streams, err error) (runner.ExitInfo, error) {
	if err != nil {
		return runner.ExitInfo{}, err
	}
	if streams.Stdin != nil || cmd.TTY {
		return runner.ExitInfo{}, errOld
	}
	var res runner.ExecResult
	if err := c.call(ctx, verbExec, &execRequest{ID: id, Exec: formerExec{Args: cmd.Args}}, &res); err != nil {
		return runner.ExitInfo{}, err
	}
	if streams.Stdout != nil {
		_, err = streams.Stdout.Write(res.Output)
	}
	return runner.ExitInfo{Code: res.ExitCode}, err
}

// Attach implements runner.Runner.
func (c *Client) Attach(ctx context.Context, id string, streams stdio.Streams) error {
	l, err := c.having(ctx, id)
	if err != nil {
		return err
	}
	if conn, err := l.connected(ctx); err != nil || conn.protocol < 3 {
		return errors.Join(err, errOld)
	}
	p, err := plumb(stdio.Streams{Stdout: streams.Stdout, Stderr: streams.Stderr, Resize: streams.Resize}, unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer p.close()
	req := &attachRequest{ID: id, Stdin: streams.Stdin != nil, Resize: streams.Resize != nil, Files: p.index}
	stream, err := l.open(verbAttach, req, p.theirs...)
	p.closeTheirs()
	if err != nil {
		return err
	}
	defer stream.close()
	err = stream.await(ctx, nil, func(f frame, input *os.File) { p.attachInput(stream, f, input, streams.Stdin) })
	p.finish(ctx, 0)
	return err
}

// attachInput copies the client's input to the container's, and says when it ends.
func (p *plumbing) attachInput(stream *call, f frame, input *os.File, stdin io.Reader) {
	var what attached
	if input == nil || json.Unmarshal(f.body, &what) != nil {
		return
	}
	p.input = input
	if what.TTY {
		p.resize(input)
	}
	if stdin == nil {
		return
	}
	go func() {
		_, _ = io.Copy(input, stdin)
		if !what.TTY {
			input.Close()
		}
		_ = sendWith(stream.conn, verbInputEnd, nil)
	}()
}

// Dial implements runner.Runner.
func (c *Client) Dial(ctx context.Context, to runner.Target) (net.Conn, error) {
	l, err := c.running(to.PodUID)
	if err != nil {
		return nil, err
	}
	if conn, err := l.connected(ctx); err != nil || conn.protocol < 3 {
		return nil, errors.Join(err, errOld)
	}
	stream, err := l.open(verbDial, &dialRequest{Pod: to.PodUID, Port: to.Port, Outside: to.Outside})
	if err != nil {
		return nil, err
	}
	defer stream.close()
	var socket *os.File
	err = stream.await(ctx, nil, func(_ frame, file *os.File) { socket = file })
	if socket == nil {
		if err == nil {
			err = errLost
		}
		return nil, err
	}
	defer socket.Close()
	if err != nil {
		return nil, err
	}
	return net.FileConn(socket)
}

// running returns the link of a pod of which a container runs.
func (c *Client) running(podUID string) (*link, error) {
	for _, l := range c.all() {
		for _, status := range l.list(nil) {
			if status.Pod.UID == podUID && status.Phase == runner.Running {
				return l, nil
			}
		}
	}
	return nil, fmt.Errorf("pod %s: no container runs: %w", podUID, runner.ErrNotFound)
}
