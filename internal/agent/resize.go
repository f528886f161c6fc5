package agent

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/reason"
)

// resizer changes the resources of a pod that runs: what its object asks for is granted when
// the node has room, and then each container that runs gets it.
type resizer struct {
	pod   *pod
	retry time.Time // no new try before, but for another generation
	tried int64     // the generation of the last try
}

// step does what is due, and returns when to look again.
func (r *resizer) step(containers []*container, now time.Time) (wakeAt time.Time) {
	state := r.pod.state
	if !state.Resizing() {
		return time.Time{}
	}
	if state.Ending != nil {
		state.Resize = podstate.Resize{}
		return time.Time{}
	}
	if r.tried != state.Object.Generation {
		r.retry, r.tried = time.Time{}, state.Object.Generation
		for _, c := range containers {
			c.resizeAfter = time.Time{}
		}
	}
	if state.AsksForMore() {
		r.ask(now)
	} else if state.Resize.Pending != nil { // it asks no more
		state.Resize.Pending, r.pod.dirty = nil, true
	}
	under := false
	for _, c := range containers {
		if c.Phase != podstate.Running {
			under = under || c.Resized
			continue
		}
		differs, restart := c.Unlike()
		under = under || differs || c.resizing
		switch {
		case !differs || c.resizing || now.Before(c.resizeAfter):
		case restart:
			c.Resized = true
			c.stopAlone(fmt.Sprintf("Container %s resize requires restart", c.Spec.Name), nil)
		default:
			c.resize()
		}
		wakeAt = earlier(wakeAt, later(c.resizeAfter, now))
	}
	if !under {
		r.complete(containers)
	}
	if state.Resize.Pending != nil {
		wakeAt = earlier(wakeAt, r.retry)
	}
	return wakeAt
}

// ask asks the node for what the pod's object asks for.
func (r *resizer) ask(now time.Time) {
	p, state := r.pod, r.pod.state
	if now.Before(r.retry) {
		return
	}
	r.retry = now.Add(resizeRetry)
	why, message := corev1.PodReasonInfeasible, "In-place resize of pod-level resources is not supported on this node"
	if equality.Semantic.DeepEqual(state.Object.Spec.Resources, r.pod.began.Spec.Resources) {
		why, message = corev1.PodReasonDeferred, p.grants.grant(p.ref.UID, state.Object, state.GrantedPod(), p.Node.Allocatable())
	}
	if message == "" {
		state.Grant()
		p.dirty = true
		p.note(normal, reason.ResizeStarted, "Pod resize started: "+state.ResizeSummary(state.Object.Generation, ""))
		return
	}
	next := podstate.ResizeState{Reason: why, Message: message, Generation: state.Object.Generation}
	old := state.Resize.Pending
	if old != nil && *old == next {
		return
	}
	state.Resize.Pending, p.dirty = &next, true
	if old != nil && old.Reason == why && old.Generation == next.Generation {
		return
	}
	event := reason.ResizeDeferred
	if why == corev1.PodReasonInfeasible {
		event = reason.ResizeInfeasible
	}
	p.note(warning, event, fmt.Sprintf("Pod resize %s: %s", why, state.ResizeSummary(next.Generation, message)))
}

// complete is what follows when every container has what was granted.
func (r *resizer) complete(containers []*container) {
	p, state := r.pod, r.pod.state
	for _, c := range containers {
		if c.Phase != podstate.Starting {
			c.Actual = c.Granted
		}
	}
	if s := state.Resize.InProgress; s != nil {
		state.Resize.InProgress, p.dirty = nil, true
		p.note(normal, reason.ResizeCompleted, "Pod resize completed: "+state.ResizeSummary(s.Generation, ""))
	}
}
