package agent

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/runner"
)

// report is what a pod worker knows about the status that the API has. At most one
// write is under way; what changes meanwhile waits for the next one.
//
//	clean ──change──▶ dirty ──due──▶ writing ──▶ clean
//	                    ▲               │ failed, or changed meanwhile
//	                    └───────────────┘
type report struct {
	dirty   bool
	since   time.Time // since when it is dirty; zero when it is not
	writing bool
	failed  int       // writes in a row
	after   time.Time // no write before
	final   bool      // what the API has, or is about to have, is the last status

	// ended are containers whose end the next status tells; when it is
	// written, the runner may forget them.
	ended []ended
}

// ended is a container that has ended.
type ended struct {
	runner runner.Runner
	id     string
}

const (
	minRetry = 100 * time.Millisecond
	maxRetry = 10 * time.Second
)

// publish writes the status if it is time. It returns when to look again, and
// whether the pod is over and its last status is written.
func (w *podWorker) publish(over bool, now time.Time) (wakeAt time.Time, done bool) {
	r := &w.report
	if w.gone.Load() {
		return time.Time{}, over && !r.writing // nobody to tell
	}
	if over && !r.final {
		r.dirty = true
	}
	if over && !r.dirty && !r.writing {
		return time.Time{}, true
	}
	if !r.dirty || r.writing {
		return time.Time{}, false
	}
	if r.since.IsZero() {
		r.since = now
	}
	at := r.since
	if !over {
		at = at.Add(w.agent.opts.StatusDelay)
	}
	if at.Before(r.after) {
		at = r.after
	}
	if now.Before(at) {
		return at, false
	}
	w.write(over, now)
	return time.Time{}, false
}

// write writes the status as of now, beside the pod worker.
func (w *podWorker) write(over bool, now time.Time) {
	r := &w.report
	told := r.ended
	r.dirty, r.since, r.ended = false, time.Time{}, nil
	r.writing, r.final = true, over
	snapshot, at := w.state.Snapshot(), w.agent.opts.Network.Of(w.state.Object)
	w.agent.tasks.Go(func() {
		_, err := w.agent.opts.Client.UpdatePodStatus(w.ctx, w.ref, func(present *corev1.Pod) corev1.PodStatus {
			return podstate.Status(snapshot, at, &present.Status, over, now)
		})
		if err == nil {
			w.forget(w.ctx, told)
		}
		w.post(func() { w.written(told, err) })
	})
}

// written takes the outcome of a write.
func (w *podWorker) written(told []ended, err error) {
	r := &w.report
	r.writing = false
	switch {
	case err == nil:
		r.failed, r.after = 0, time.Time{}
	case apierrors.IsNotFound(err):
		// The watch is about to say so too.
		w.gone.Store(true)
		w.observe()
	default:
		w.log().Warn("cannot write a pod's status", "err", err)
		r.dirty, r.final = true, false
		r.ended = slices.Concat(told, r.ended)
		r.after = time.Now().Add(min(minRetry<<min(r.failed, 10), maxRetry))
		r.failed++
	}
}

// forget lets the runner forget containers whose end the API knows.
func (w *podWorker) forget(ctx context.Context, list []ended) {
	for _, e := range list {
		if err := e.runner.Remove(ctx, e.id); err != nil && ctx.Err() == nil {
			w.log().Warn("cannot remove a container", "container", e.id, "err", err)
		}
	}
}
