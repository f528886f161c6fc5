package agent

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
)

// statusWriter writes a pod's status. At most one write is under way; what changes
// meanwhile waits for the next one.
//
//	clean ──change──▶ dirty ──due──▶ writing ──▶ clean
//	                    ▲               │ failed, or changed meanwhile
//	                    └───────────────┘
type statusWriter struct {
	pod     *pod
	since   time.Time // since when it is dirty; zero when it is not
	writing bool
	failed  int       // writes in a row
	after   time.Time // no write before
	final   bool      // what the API has, or is about to have, is the last status
}

const (
	minRetry = 100 * time.Millisecond
	maxRetry = 10 * time.Second
)

// publish writes the status if it is time. It returns when to look again, and whether
// the pod is over and its last status is written.
func (s *statusWriter) publish(over bool, now time.Time) (wakeAt time.Time, done bool) {
	p := s.pod
	if p.gone.Load() {
		return time.Time{}, over && !s.writing // nobody to tell
	}
	if over && !s.final {
		p.dirty = true
	}
	if over && !p.dirty && !s.writing {
		return time.Time{}, true
	}
	if !p.dirty || s.writing {
		return time.Time{}, false
	}
	if s.since.IsZero() {
		s.since = now
	}
	at := s.since
	if !over {
		at = at.Add(p.StatusDelay)
	}
	if at.Before(s.after) {
		at = s.after
	}
	if now.Before(at) {
		return at, false
	}
	s.write(over, now)
	return time.Time{}, false
}

// write writes the status as of now, beside the worker.
func (s *statusWriter) write(over bool, now time.Time) {
	p := s.pod
	told := p.ended
	p.dirty, p.ended, s.since = false, nil, time.Time{}
	s.writing, s.final = true, over
	snapshot, at := p.state.Snapshot(), p.addresses(p.state.Object)
	p.tasks.Go(func() {
		_, err := p.Client.UpdatePodStatus(p.ctx, p.ref, func(present *corev1.Pod) corev1.PodStatus {
			return podstate.Status(snapshot, at, &present.Status, over, now)
		})
		if err == nil {
			p.forget(p.ctx, told)
		}
		p.post(func() { s.written(told, err) })
	})
}

// written records the outcome of a write.
func (s *statusWriter) written(told []endedContainer, err error) {
	p := s.pod
	s.writing = false
	switch {
	case err == nil:
		s.failed, s.after = 0, time.Time{}
	case apierrors.IsNotFound(err):
		// The API has the pod no more; the watch is about to say so, too.
		p.gone.Store(true)
		p.state.End(podstate.Ending{Since: time.Now()})
	default:
		p.log().Warn("cannot write a pod's status", "err", err)
		p.dirty, s.final = true, false
		p.ended = slices.Concat(told, p.ended)
		s.after = time.Now().Add(min(minRetry<<min(s.failed, 10), maxRetry))
		s.failed++
	}
}
