package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/probe"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// startLifecycle begins what goes with a process that was just started: its postStart
// hook, then its probes.
func (w *podWorker) startLifecycle(i int) {
	c, t := &w.state.Containers[i], &w.tasks[i]
	w.beginLife(i)
	l := c.Spec.Lifecycle
	if l == nil || l.PostStart == nil {
		w.startProbes(i)
		return
	}
	c.Hook, t.hooking = true, true
	life, id, handler := t.life, c.ID, l.PostStart
	do := w.hook(i)
	w.agent.tasks.Go(func() {
		err := do(life, handler)
		w.post(func() { w.postStartDone(i, id, err) })
	})
}

// resume does the same for a process that a former run of the node has
// started. Its hook is not run again.
func (w *podWorker) resumeLifecycle(i int) {
	w.beginLife(i)
	w.startProbes(i)
}

// begun gives the process of container i a context.
func (w *podWorker) beginLife(i int) {
	t := &w.tasks[i]
	t.life, t.end = context.WithCancel(w.ctx)
	t.stopProbes = func() {}
}

// endLife ends what went with a process.
func (w *podWorker) endLife(i int) {
	t := &w.tasks[i]
	if t.end != nil {
		t.end()
	}
	t.hooking = false
}

// hooked takes that the postStart hook has returned.
func (w *podWorker) postStartDone(i int, id string, err error) {
	c := &w.state.Containers[i]
	if c.ID != id || !c.HasProcess() {
		return
	}
	w.tasks[i].hooking = false
	w.report.dirty = true
	if err == nil {
		c.Hook = false
		if c.Phase == podstate.Running {
			w.startProbes(i)
		}
		return
	}
	w.log().Info("a postStart hook failed", "container", id, "err", err)
	w.note(c, warning, reason.FailedPostStartHook, "PostStartHook failed")
	c.Reason, c.Message = "PostStartHookError", "PostStartHook failed: "+err.Error()
	if c.Phase == podstate.Running {
		w.stopContainer(i, "FailedPostStartHook", nil)
	}
}

// preStop runs the container's preStop hook, which has until the end of the
// grace period.
func (w *podWorker) preStop(i int) {
	c := &w.state.Containers[i]
	c.Stop.Hook = true
	life, id, handler := w.tasks[i].life, c.ID, c.Spec.Lifecycle.PreStop
	deadline := c.Stop.Since.Add(c.Stop.Grace)
	do := w.hook(i)
	w.agent.tasks.Go(func() {
		ctx, cancel := context.WithDeadline(life, deadline)
		defer cancel()
		err := do(ctx, handler)
		failed := err != nil && ctx.Err() == nil
		w.post(func() {
			c := &w.state.Containers[i]
			if failed {
				w.log().Info("a preStop hook failed", "container", id, "err", err)
				w.note(c, warning, reason.FailedPreStopHook, "PreStopHook failed")
			}
			if c.ID == id {
				c.Stop.Hook = false
			}
		})
	})
}

// hook returns what runs a hook of container i.
func (w *podWorker) hook(i int) func(context.Context, *corev1.LifecycleHandler) error {
	target := w.target(i)
	return func(ctx context.Context, h *corev1.LifecycleHandler) error { return probe.Hook(ctx, h, target) }
}

// target returns how the process of container i is reached.
func (w *podWorker) target(i int) probe.Target {
	c := &w.state.Containers[i]
	r, id := w.runner(i), c.ID
	return probe.Target{
		IP: w.agent.opts.Network.Of(w.state.Object).PodIP(), Ports: c.Spec.Ports,
		Exec: func(ctx context.Context, args []string, timeout time.Duration) (runner.ExecResult, error) {
			return r.Exec(ctx, id, runner.ExecSpec{Args: args, Timeout: timeout})
		},
	}
}

// stopAlone has container i stopped while its pod lives on. grace is nil for
// the pod's own.
func (w *podWorker) stopContainer(i int, message string, grace *int64) {
	now := time.Now()
	s := podstate.Stop{Since: now, Grace: w.state.Grace(), Alone: true}
	if grace != nil {
		s.Grace = time.Duration(*grace) * time.Second
	}
	w.stop(podstate.StopOrder{Index: i, Message: message, Stop: s})
}

// probe begins the probes of container i: the startup probe first, then the
// others.
func (w *podWorker) startProbes(i int) {
	c := &w.state.Containers[i]
	w.report.dirty = true
	if c.Started || c.Spec.StartupProbe == nil {
		w.startupDone(i)
		return
	}
	c.Started, c.Ready = false, false
	probing, cancel := context.WithCancel(w.tasks[i].life)
	w.tasks[i].stopProbes = cancel
	w.runProbe(i, probing, probe.Startup, c.Spec.StartupProbe)
}

// up takes that container i has started in the sense of its startup probe.
func (w *podWorker) startupDone(i int) {
	c, t := &w.state.Containers[i], &w.tasks[i]
	c.Started = true
	if p := c.Spec.ReadinessProbe; p != nil {
		w.runProbe(i, t.life, probe.Readiness, p)
	} else {
		c.Ready = true
	}
	if p := c.Spec.LivenessProbe; p != nil {
		probing, cancel := context.WithCancel(t.life)
		t.stopProbes = cancel
		w.runProbe(i, probing, probe.Liveness, p)
	}
}

// watch runs one probe of container i until ctx ends.
func (w *podWorker) runProbe(i int, ctx context.Context, kind probe.Kind, p *corev1.Probe) {
	c := w.state.Containers[i]
	pod, target := w.state.Object, w.target(i)
	record := func(reason, message string) {
		w.agent.opts.Client.Record(note(pod, &c, warning, reason, message))
	}
	w.agent.tasks.Go(func() {
		probe.Run(ctx, kind, p, c.StartedAt, target, record, func(ok bool) {
			w.post(func() {
				if ctx.Err() == nil {
					w.probed(i, kind, p, ok)
				}
			})
		})
	})
}

// probed takes that the verdict of a probe of container i has changed.
func (w *podWorker) probed(i int, kind probe.Kind, p *corev1.Probe, ok bool) {
	c, t := &w.state.Containers[i], &w.tasks[i]
	switch {
	case kind == probe.Readiness:
		c.Ready = ok
		w.report.dirty = true
	case ok && kind == probe.Startup:
		t.stopProbes()
		w.startupDone(i)
		w.report.dirty = true
	case !ok && c.Phase == podstate.Running:
		message := fmt.Sprintf("Container %s failed %s probe", c.Spec.Name, kind)
		if w.state.RestartsAfterFailure(c) {
			message += ", will be restarted"
		}
		w.stopContainer(i, message, p.TerminationGracePeriodSeconds)
	}
}
