package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// services is what the pods of a node have in common.
type services struct {
	*containerRuntime
	logs    openLogs
	grants  grants
	takings takings
	turns   turns
	certify certifier
	tasks   sync.WaitGroup // everything that Run has to wait for
	alarm   chan struct{}  // has the eviction manager look at once
}

// lookSoon has the eviction manager look at the machine now, not when it is time.
func (s *services) lookSoon() {
	select {
	case s.alarm <- struct{}{}:
	default:
	}
}

// pod is what a pod worker and the containers of its pod share. One goroutine, the
// worker's, knows and decides about the pod; whatever takes time runs beside it and
// posts its result.
type pod struct {
	*services
	ref   runner.PodRef
	ctx   context.Context // of the worker; set before anything runs beside it
	inbox chan func()     // results, run by the worker
	done  chan struct{}   // closed when the worker has left
	gone  atomic.Bool     // the API has the pod no more

	tokens       podTokens // of its volumes
	certificates podCertificates

	// What follows belongs to the worker's goroutine.
	state *podstate.Pod
	dirty bool // there is something to report
	// ended are containers whose end the next status tells; when it is written, the
	// runner may forget them.
	ended []endedContainer

	began *corev1.Pod // as the node first saw it

	endTurn func() // of its start; see turns

	uncertain   bool // a start failed in a way that may have left a container
	saidLimits  bool // that limits are not enforced
	saidContext bool // that a part of its security context has no effect
}

// endedContainer is a container that has ended, and the runner that has it.
type endedContainer struct {
	runner runner.Runner
	id     string
}

// post has f run by the worker, unless that has left.
func (p *pod) post(f func()) {
	select {
	case p.inbox <- f:
	case <-p.done:
	}
}

// log returns a logger that names the pod.
func (p *pod) log() *slog.Logger {
	return p.Log.With("ns", p.ref.Namespace, "name", p.ref.Name, "uid", p.ref.UID)
}

// note records an Event about the pod.
func (p *pod) note(kind, reason, message string) {
	p.Client.Record(note(p.state.Object, nil, kind, reason, message))
}

// setVolumes has the pod's volumes made, or brought up to date.
func (p *pod) setVolumes(ctx context.Context, object *corev1.Pod) error {
	volumes := p.volumes(ctx, object)
	volumes.Token = func(src *corev1.ServiceAccountTokenProjection) (string, error) {
		return p.tokens.get(ctx, p.Client, object, src, time.Now())
	}
	volumes.Certificate = func(volume string, source int, src *corev1.PodCertificateProjection) (key, chain []byte, err error) {
		return p.certificates.get(ctx, &p.certify, object, certificateKey{volume, source}, src, time.Now())
	}
	return volumes.Setup(ctx, p.Runners[p.class(object)])
}

// currentStatus returns the status to be reported now, given what the API says.
func (p *pod) currentStatus(now time.Time) corev1.PodStatus {
	return podstate.Status(p.state, p.addresses(p.state.Object), &p.state.Object.Status, false, now)
}

// end begins the pod's end.
func (p *pod) end(e podstate.Ending) {
	p.state.End(e)
	p.dirty = true
}

// evict ends the pod because of what it uses. disrupted says that the node needs
// that, and not that the pod has broken a limit of its own.
func (p *pod) evict(message string, disrupted bool) {
	if p.state.Ending != nil && p.state.Ending.Reason == reason.Evicted {
		return
	}
	p.note(warning, reason.Evicted, message)
	p.end(podstate.Ending{
		Since: time.Now(), Grace: evictionGrace, Failed: true, Reason: reason.Evicted, Message: message, Disrupted: disrupted,
	})
}

// evictionGrace is what an evicted pod has to end in.
const evictionGrace = time.Second

// forget lets the runners forget containers whose end the API knows.
func (p *pod) forget(ctx context.Context, list []endedContainer) {
	for _, e := range list {
		if err := e.runner.Remove(ctx, e.id); err != nil && ctx.Err() == nil {
			p.log().Warn("cannot remove a container", "container", e.id, "err", err)
		}
	}
}
