package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/stdio"
)

// Exec runs a command in a container of the pod, which must be bound to this node,
// and returns its exit code. options.Container is one of the pod's containers.
// Errors are those of the API; when ctx ends, its cause.
func (a *Agent) Exec(ctx context.Context, pod *corev1.Pod, options *corev1.PodExecOptions, streams stdio.Streams) (exit int, err error) {
	r, id, err := a.running(pod, options.Container)
	if err != nil {
		return 0, err
	}
	info, err := r.Exec(ctx, id, runner.ExecSpec{Args: options.Command, TTY: options.TTY}, streams)
	return info.Code, streamError(ctx, pod, options.Container, err)
}

// Attach connects the streams with those of a container of the pod until either has
// ended; see runner.Runner. Otherwise it is like Exec.
func (a *Agent) Attach(ctx context.Context, pod *corev1.Pod, options *corev1.PodAttachOptions, streams stdio.Streams) error {
	r, id, err := a.running(pod, options.Container)
	if err != nil {
		return err
	}
	return streamError(ctx, pod, options.Container, r.Attach(ctx, id, streams))
}

// PortForward connects to a port of the pod, which must be bound to this node. Whoever
// has the connection closes it; when the pod ends, or ctx does, it is closed.
func (a *Agent) PortForward(ctx context.Context, pod *corev1.Pod, port uint16) (net.Conn, error) {
	conn, err := a.connect(ctx, ctx, pod, runner.Target{Port: port})
	if errors.Is(err, runner.ErrNotFound) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %q is not running", pod.Name))
	}
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("port %d of pod %q: %w", port, pod.Name, err))
	}
	return conn, nil
}

// Dial connects to a port of the pod, which must be bound to this node, as other pods do. The
// connection outlives ctx, not the pod.
func (a *Agent) Dial(ctx context.Context, pod *corev1.Pod, port uint16) (net.Conn, error) {
	conn, err := a.connect(ctx, context.WithoutCancel(ctx), pod, runner.Target{Port: port, Outside: true})
	if errors.Is(err, runner.ErrNotFound) {
		return nil, os.NewSyscallError("connect", unix.ECONNREFUSED) // nothing listens there
	}
	return conn, err
}

// connect connects to a port of the pod. When the pod ends, or life does, the connection is
// closed.
func (a *Agent) connect(ctx, life context.Context, pod *corev1.Pod, to runner.Target) (net.Conn, error) {
	to.PodUID = string(pod.UID)
	w := a.pods.workerOf(to.PodUID)
	if w == nil {
		return nil, runner.ErrNotFound
	}
	conn, err := a.services.Runners[a.services.class(pod)].Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(life)
	context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer cancel()
		select {
		case <-w.done:
		case <-ctx.Done():
		}
	}()
	return &forward{Conn: conn, cancel: cancel}, nil
}

// forward is a connection to a port of a pod.
type forward struct {
	net.Conn
	cancel func()
}

// Close closes the connection.
func (f *forward) Close() error {
	defer f.cancel()
	return f.Conn.Close()
}

// CloseWrite lets the pod know that nothing more comes.
func (f *forward) CloseWrite() error {
	if c, ok := f.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return f.Close()
}

// running returns where a container of the pod runs, and as what.
func (a *Agent) running(pod *corev1.Pod, name string) (r runner.Runner, id string, err error) {
	if w := a.pods.workerOf(string(pod.UID)); w != nil {
		r, id = w.running(name)
	}
	if id == "" {
		return nil, "", notRunning(name, pod.Name)
	}
	return r, id, nil
}

// running asks the pod's worker for a container that runs; id is "" if it does not.
func (w *podWorker) running(name string) (r runner.Runner, id string) {
	answered := make(chan struct{})
	w.post(func() {
		defer close(answered)
		if c := w.named(name); c != nil && c.Phase == podstate.Running {
			r, id = c.runner(), c.ID
		}
	})
	select {
	case <-answered:
		return r, id
	case <-w.done:
		return nil, ""
	}
}

func notRunning(container, pod string) error {
	return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is not running", container, pod))
}

// streamError puts what a runner says into the API's words.
func streamError(ctx context.Context, pod *corev1.Pod, container string, err error) error {
	var start *runner.StartError
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, runner.ErrEnded) || errors.Is(err, runner.ErrNotFound):
		return notRunning(container, pod.Name)
	case errors.Is(err, runner.ErrBusy):
		return apierrors.NewTooManyRequests(fmt.Sprintf("container %q in pod %q: %v", container, pod.Name, err), 1)
	case errors.As(err, &start):
		return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q: %s", container, pod.Name, start.Message))
	}
	return apierrors.NewInternalError(fmt.Errorf("container %q in pod %q: %w", container, pod.Name, err))
}
