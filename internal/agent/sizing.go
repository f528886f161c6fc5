package agent

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// resizeRetry is how soon a resize that has to wait, or has failed, is tried again.
const resizeRetry = 10 * time.Second

// hasStarted notes what resources a process has been started with: those of when its start
// began, began.
func (c *container) hasStarted(began *podstate.Container) {
	c.Resized = false
	switch {
	case began.Granted != nil:
		c.Actual = began.Granted
	case c.Granted != nil || c.Actual != nil: // they have changed, or are about to
		c.Actual = &began.Spec.Resources
	}
}

// resize has the container's process get what was granted, beside the worker.
func (c *container) resize() {
	c.resizing = true
	granted := c.Spec.Resources
	if c.Granted != nil {
		granted = *c.Granted
	}
	p, run, id := c.pod, c.runner(), c.ID
	p.tasks.Go(func() {
		ignored, err := run.Resize(p.ctx, id, runspec.Resources(&granted))
		p.post(func() {
			c.limitsIgnored(ignored)
			c.resizeDone(id, &granted, err)
		})
	})
}

// resizeDone records what came of it.
func (c *container) resizeDone(id string, granted *corev1.ResourceRequirements, err error) {
	c.resizing = false
	if c.ID != id || errors.Is(err, runner.ErrEnded) || errors.Is(err, runner.ErrNotFound) || errors.Is(err, context.Canceled) {
		return // the next process has it from its start
	}
	p := c.pod
	if err == nil {
		c.Actual, c.resizeAfter, p.dirty = granted, time.Time{}, true
		return
	}
	c.resizeAfter = time.Now().Add(resizeRetry)
	s := p.state.Resize.InProgress
	if s == nil {
		s = &podstate.ResizeState{Generation: p.state.Object.Generation}
	}
	next := podstate.ResizeState{Reason: corev1.PodReasonError, Message: err.Error(), Generation: s.Generation}
	if next == *s {
		return
	}
	p.state.Resize.InProgress, p.dirty = &next, true
	p.note(warning, reason.ResizeError, "Pod resize error: "+p.state.ResizeSummary(next.Generation, next.Message))
}

// limitsIgnored says once per pod that its resource limits have no effect.
func (c *container) limitsIgnored(why string) {
	if why != "" && !c.pod.saidLimits {
		c.pod.saidLimits = true
		c.pod.note(warning, reason.LimitsIgnored, "Resource requests and limits are not enforced on this node: "+why)
	}
}
