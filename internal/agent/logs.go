package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// Logs returns the log of a container of the pod, which must be bound to this
// node. opts has been validated. The reader ends with ctx, and when it is closed.
// Errors are those of the API.
func (a *Agent) Logs(ctx context.Context, pod *corev1.Pod, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	name, err := logContainer(pod, opts.Container)
	if err != nil {
		return nil, err
	}
	st, life := a.containerNow(pod, name)
	if opts.Follow {
		st, life = a.awaitLife(ctx, pod, name, st, life)
	}
	if st == nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is not available", name, pod.Name))
	}
	id, err := loggedAttempt(st, pod.Name, name, opts.Previous)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(id[strings.LastIndexByte(id, '_')+1:])
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("container id %q of pod %q is not one of this node's", id, pod.Name))
	}
	read := crilog.Options{
		Tail: opts.TailLines, LimitBytes: opts.LimitBytes, Timestamps: opts.Timestamps, Follow: opts.Follow,
	}
	if life != nil && id == st.ContainerID {
		read.Ended = life
	} else {
		read.Follow = false
	}
	switch {
	case opts.SinceTime != nil:
		read.Since = opts.SinceTime.Time
	case opts.SinceSeconds != nil:
		read.Since = time.Now().Add(-kind.Seconds(*opts.SinceSeconds))
	}
	if opts.Stream != nil && *opts.Stream != corev1.LogStreamAll {
		read.Stream = crilog.Stream(strings.ToLower(*opts.Stream))
	}
	log, err := a.services.logs.open(ctx, string(pod.UID), a.services.files.Log(RefOf(pod), name, number), read, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notHere(name, pod.Name)
	}
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("the log of container %q in pod %q: %w", name, pod.Name, err))
	}
	return log, nil
}

const (
	// lifeWithin is how long to wait for word of a container that is said to run.
	lifeWithin = 10 * time.Second
	lifePause  = 50 * time.Millisecond
)

// awaitLife waits for who can tell when a container ends, if all that is known is
// that it was running: an engine that was just started answers before it has taken
// up its pods, and a pod worker that leaves has reported more than the node was told
// of. Who followed such a log would never be told of its end.
func (a *Agent) awaitLife(ctx context.Context, pod *corev1.Pod, name string, st *corev1.ContainerStatus, life <-chan struct{}) (*corev1.ContainerStatus, <-chan struct{}) {
	for end := time.Now().Add(lifeWithin); st != nil && st.State.Running != nil && life == nil && time.Now().Before(end); {
		select {
		case <-time.After(lifePause):
		case <-ctx.Done():
			return st, life
		}
		st, life = a.containerNow(pod, name)
	}
	return st, life
}

// notHere is the error for the log of a container that has run, and whose log was
// removed: an empty one would be a lie.
func notHere(container, pod string) error {
	err := apierrors.NewNotFound(corev1.Resource("pods/log"), pod)
	err.ErrStatus.Message = fmt.Sprintf("the log of container %q in pod %q has been removed", container, pod)
	return err
}

// logContainer returns the container whose log is meant.
func logContainer(pod *corev1.Pod, name string) (string, error) {
	mains, inits := names(pod.Spec.Containers), names(pod.Spec.InitContainers)
	if name == "" {
		switch len(mains) {
		case 1:
			return mains[0], nil
		case 0:
			return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
		}
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %v", pod.Name, mains)
		if len(inits) > 0 {
			text += fmt.Sprintf(" or one of the init containers: %v", inits)
		}
		return "", apierrors.NewBadRequest(text)
	}
	known := append(mains, inits...)
	for i := range pod.Spec.EphemeralContainers {
		known = append(known, pod.Spec.EphemeralContainers[i].Name)
	}
	if slices.Contains(known, name) {
		return name, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

func names(list []corev1.Container) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Name
	}
	return out
}

// containerNow returns the newest status of a container, which the API may not
// know yet, and a channel that is closed when its process has ended.
func (a *Agent) containerNow(pod *corev1.Pod, name string) (*corev1.ContainerStatus, <-chan struct{}) {
	known := []*corev1.Pod{pod}
	if latest := a.pods.object(string(pod.UID)); latest != nil {
		known = append(known, latest)
	}
	if w := a.pods.workerOf(string(pod.UID)); w != nil {
		if st, life, ok := w.container(name); ok {
			return st, life
		}
	}
	// The pod worker has left. What it reported last may be in the pod of the request
	// and not yet in the one that this node was told of.
	var best *corev1.ContainerStatus
	for _, pod := range known {
		st := containerStatus(pod, name)
		if best == nil || best.ContainerID == "" && st != nil {
			best = st
		}
	}
	return best, nil
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// container asks the pod worker for the status of a container. ok is false when it
// has left.
func (w *podWorker) container(name string) (st *corev1.ContainerStatus, life <-chan struct{}, ok bool) {
	answered := make(chan struct{})
	w.post(func() {
		defer close(answered)
		if c := w.named(name); c != nil {
			s := w.currentStatus(time.Now())
			st, ok = statusOf(&s, c.Container), true
			if c.life != nil {
				life = c.life.Done()
			}
		}
	})
	select {
	case <-answered:
		return st, life, ok
	case <-w.done:
		return nil, nil, false
	}
}

// loggedAttempt returns the id of the attempt whose log is meant: the present
// one, or the one before. The texts are a kubelet's.
func loggedAttempt(st *corev1.ContainerStatus, pod, name string, previous bool) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		args = append([]any{name, pod}, args...)
		return "", apierrors.NewBadRequest(fmt.Sprintf(format, args...))
	}
	last, ended := st.LastTerminationState.Terminated, st.State.Terminated
	hasLast := last != nil && last.ContainerID != ""
	switch {
	case previous && !hasLast:
		return refuse("previous terminated container %q in pod %q not found")
	case previous:
		return last.ContainerID, nil
	case st.State.Running != nil:
		return st.ContainerID, nil
	case ended != nil && ended.ContainerID != "":
		return ended.ContainerID, nil
	case hasLast:
		return last.ContainerID, nil
	case ended != nil || last != nil:
		return refuse("container %q in pod %q is terminated")
	case st.State.Waiting == nil:
		return refuse("container %q in pod %q is waiting to start - no logs yet")
	case st.State.Waiting.Reason == ErrImagePull:
		return refuse("container %q in pod %q is waiting to start: image can't be pulled")
	case st.State.Waiting.Reason == ImagePullBackOff:
		return refuse("container %q in pod %q is waiting to start: trying and failing to pull image")
	}
	return refuse("container %q in pod %q is waiting to start: %v", st.State.Waiting.Reason)
}
