package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/volume"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// volumes is what a pod worker knows about the volumes of its pod.
type volumes struct {
	due      time.Time // when to set them up, or refresh them; zero: never
	busy     bool      // that is being done
	failures int       // in a row
	said     string    // the last failure that was noted
}

const (
	// refreshPeriod is how often volumes that show API objects are compared
	// with them, as long as the pod runs.
	refreshPeriod = time.Minute
	// Volumes that cannot be set up are tried again with a growing delay.
	minMountRetry = 500 * time.Millisecond
	maxMountRetry = 2*time.Minute + 2*time.Second
)

// prepare gets ready what the pod's containers need before any of them starts.
func (w *podWorker) prepare() {
	pod := w.state.Object
	class := w.agent.class(pod)
	if err := w.agent.noSandbox(pod, class); err != nil {
		w.note(nil, warning, reason.FailedCreatePodSandBox, fmt.Sprintf("Failed to create pod sandbox: %v", err))
		return
	}
	if what := unenforced(pod); what != "" && !w.state.Begun() {
		w.note(nil, warning, reason.NotEnforced, "No effect on this node: "+what)
	}
	if err := w.agent.ownFiles(pod); err != nil { // a full disk, say: again with the volumes
		w.mounted(err, time.Now())
		return
	}
	if len(pod.Spec.Volumes) == 0 {
		w.state.Ready = true
		return
	}
	w.volumes.due = time.Now()
}

// mount sets the volumes up, or refreshes them, when that is due. It returns
// when to look again.
func (w *podWorker) mount(now time.Time) time.Time {
	v := &w.volumes
	if v.busy || v.due.IsZero() || w.state.Ending != nil {
		return time.Time{}
	}
	if now.Before(v.due) {
		return v.due
	}
	v.busy, v.due = true, time.Time{}
	pod, ready := w.state.Object, w.state.Ready
	w.agent.tasks.Go(func() {
		var err error
		if !ready {
			err = w.agent.ownFiles(pod)
		}
		if err == nil {
			err = w.agent.setVolumes(w.ctx, pod)
		}
		w.post(func() { w.mounted(err, time.Now()) })
	})
	return time.Time{}
}

// mounted takes the outcome of setting up the volumes.
func (w *podWorker) mounted(err error, now time.Time) {
	v := &w.volumes
	v.busy = false
	if err == nil {
		v.failures, v.said = 0, ""
		if volume.Live(w.state.Object) {
			v.due = now.Add(refreshPeriod)
		}
		if !w.state.Ready {
			w.state.Ready, w.report.dirty = true, true
		}
		return
	}
	v.due = now.Add(min(minMountRetry<<min(v.failures, 20), maxMountRetry))
	v.failures++
	if text := err.Error(); text != v.said {
		v.said = text
		w.noteUnprepared(err)
	}
}

// noteUnprepared notes why a pod cannot start yet.
func (w *podWorker) noteUnprepared(err error) {
	var files *filesError
	if errors.As(err, &files) {
		w.note(nil, warning, reason.FailedCreatePodSandBox, err.Error())
		return
	}
	for _, err := range split(err) {
		w.note(nil, warning, reason.FailedMount, err.Error())
	}
}

// filesError says that a pod's own files could not be written.
type filesError struct{ err error }

func (e *filesError) Error() string { return fmt.Sprintf("Failed to create pod sandbox: %v", e.err) }
func (e *filesError) Unwrap() error { return e.err }

// ownFiles writes the pod's own versions of files in /etc, where it has any.
func (a *Agent) ownFiles(pod *corev1.Pod) error {
	if a.class(pod) == runner.Host {
		return nil
	}
	if err := a.files.WriteEtc(pod, network.Hostname(pod, a.opts.Node.Name()), a.opts.Network.Of(pod).Pod); err != nil {
		return &filesError{err}
	}
	return nil
}

// evict ends the pod because of what it uses. disrupted says that the node needs
// that, and not that the pod has broken a limit of its own.
func (w *podWorker) evict(message string, disrupted bool) {
	if w.state.Ending != nil && w.state.Ending.Reason == reason.Evicted {
		return
	}
	w.note(nil, warning, reason.Evicted, message)
	w.state.End(podstate.Ending{
		Since: time.Now(), Grace: evictionGrace, Failed: true, Reason: reason.Evicted, Message: message, Disrupted: disrupted,
	})
	w.report.dirty = true
}

// evictionGrace is what an evicted pod has to end in.
const evictionGrace = time.Second

// split returns the errors that err joins.
func split(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// remount has the volumes refreshed soon if the pod's own labels or
// annotations changed, which they may show.
func (w *podWorker) remount(old, pod *corev1.Pod) {
	if w.volumes.due.IsZero() || maps.Equal(old.Labels, pod.Labels) && maps.Equal(old.Annotations, pod.Annotations) {
		return
	}
	w.volumes.due = time.Now()
}

// setVolumes has the pod's volumes made, or brought up to date.
func (a *Agent) setVolumes(ctx context.Context, pod *corev1.Pod) error {
	return a.volumesOf(ctx, pod).Setup(ctx, a.opts.Runners[a.class(pod)])
}

func (a *Agent) volumesOf(ctx context.Context, pod *corev1.Pod) *volume.Pod {
	return &volume.Pod{
		Object: pod, Class: a.class(pod), Objects: objects{ctx, a.opts.Client, pod.Namespace}, Paths: a.paths,
		Addresses: a.opts.Network.Of(pod), Allocatable: a.opts.Node.Allocatable(),
	}
}
