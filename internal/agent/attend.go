package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/probe"
	"github.com/sampan-batch/sampan/internal/runner"
)

// attend begins what goes with a process that was just started: its postStart
// hook, then its probes.
func (k *keeper) attend(i int) {
	c, t := &k.state.Containers[i], &k.tasks[i]
	k.begun(i)
	l := c.Spec.Lifecycle
	if l == nil || l.PostStart == nil {
		k.probe(i)
		return
	}
	c.Hook, t.hooking = true, true
	life, id, handler := t.life, c.ID, l.PostStart
	do := k.hook(i)
	k.agent.tasks.Go(func() {
		err := do(life, handler)
		k.post(func() { k.hooked(i, id, err) })
	})
}

// resume does the same for a process that a former run of the node has
// started. Its hook is not run again.
func (k *keeper) resume(i int) {
	k.begun(i)
	k.probe(i)
}

// begun gives the process of container i a context.
func (k *keeper) begun(i int) {
	t := &k.tasks[i]
	t.life, t.end = context.WithCancel(k.ctx)
	t.calm = func() {}
}

// unattend ends what went with a process.
func (k *keeper) unattend(i int) {
	t := &k.tasks[i]
	if t.end != nil {
		t.end()
	}
	t.hooking = false
}

// hooked takes that the postStart hook has returned.
func (k *keeper) hooked(i int, id string, err error) {
	c := &k.state.Containers[i]
	if c.ID != id || !c.HasProcess() {
		return
	}
	k.tasks[i].hooking = false
	k.report.dirty = true
	if err == nil {
		c.Hook = false
		if c.Phase == podstate.Running {
			k.probe(i)
		}
		return
	}
	k.log().Info("a postStart hook failed", "container", id, "err", err)
	k.note(c, warning, "FailedPostStartHook", "PostStartHook failed")
	c.Reason, c.Message = "PostStartHookError", "PostStartHook failed: "+err.Error()
	if c.Phase == podstate.Running {
		k.stopAlone(i, "FailedPostStartHook", nil)
	}
}

// preStop runs the container's preStop hook, which has until the end of the
// grace period.
func (k *keeper) preStop(i int) {
	c := &k.state.Containers[i]
	c.Stop.Hook = true
	life, id, handler := k.tasks[i].life, c.ID, c.Spec.Lifecycle.PreStop
	deadline := c.Stop.Since.Add(c.Stop.Grace)
	do := k.hook(i)
	k.agent.tasks.Go(func() {
		ctx, cancel := context.WithDeadline(life, deadline)
		defer cancel()
		err := do(ctx, handler)
		failed := err != nil && ctx.Err() == nil
		k.post(func() {
			c := &k.state.Containers[i]
			if failed {
				k.log().Info("a preStop hook failed", "container", id, "err", err)
				k.note(c, warning, "FailedPreStopHook", "PreStopHook failed")
			}
			if c.ID == id {
				c.Stop.Hook = false
			}
		})
	})
}

// hook returns what runs a hook of container i.
func (k *keeper) hook(i int) func(context.Context, *corev1.LifecycleHandler) error {
	target := k.target(i)
	return func(ctx context.Context, h *corev1.LifecycleHandler) error { return probe.Hook(ctx, h, target) }
}

// target returns how the process of container i is reached.
func (k *keeper) target(i int) probe.Target {
	c := &k.state.Containers[i]
	r, id := k.runner(i), c.ID
	t := probe.Target{
		Ports: c.Spec.Ports,
		Exec: func(ctx context.Context, args []string, timeout time.Duration) (runner.ExecResult, error) {
			return r.Exec(ctx, id, runner.ExecSpec{Args: args, Timeout: timeout})
		},
	}
	if ips := k.agent.host.IPs; len(ips) > 0 {
		t.IP = ips[0]
	}
	return t
}

// stopAlone has container i stopped while its pod lives on. grace is nil for
// the pod's own.
func (k *keeper) stopAlone(i int, message string, grace *int64) {
	now := time.Now()
	s := podstate.Stop{Since: now, Grace: k.state.Grace(), Alone: true}
	if grace != nil {
		s.Grace = time.Duration(*grace) * time.Second
	}
	k.stop(podstate.StopOrder{Index: i, Message: message, Stop: s})
}

// probe begins the probes of container i: the startup probe first, then the
// others.
func (k *keeper) probe(i int) {
	c := &k.state.Containers[i]
	k.report.dirty = true
	if c.Started || c.Spec.StartupProbe == nil {
		k.up(i)
		return
	}
	c.Started, c.Ready = false, false
	calm, cancel := context.WithCancel(k.tasks[i].life)
	k.tasks[i].calm = cancel
	k.watch(i, calm, probe.Startup, c.Spec.StartupProbe)
}

// up takes that container i has started in the sense of its startup probe.
func (k *keeper) up(i int) {
	c, t := &k.state.Containers[i], &k.tasks[i]
	c.Started = true
	if p := c.Spec.ReadinessProbe; p != nil {
		k.watch(i, t.life, probe.Readiness, p)
	} else {
		c.Ready = true
	}
	if p := c.Spec.LivenessProbe; p != nil {
		calm, cancel := context.WithCancel(t.life)
		t.calm = cancel
		k.watch(i, calm, probe.Liveness, p)
	}
}

// watch runs one probe of container i until ctx ends.
func (k *keeper) watch(i int, ctx context.Context, kind probe.Kind, p *corev1.Probe) {
	c := k.state.Containers[i]
	pod, target := k.state.Object, k.target(i)
	record := func(reason, message string) {
		k.agent.opts.Client.Record(note(pod, &c, warning, reason, message))
	}
	k.agent.tasks.Go(func() {
		probe.Run(ctx, kind, p, c.StartedAt, target, record, func(ok bool) {
			k.post(func() {
				if ctx.Err() == nil {
					k.probed(i, kind, p, ok)
				}
			})
		})
	})
}

// probed takes that the verdict of a probe of container i has changed.
func (k *keeper) probed(i int, kind probe.Kind, p *corev1.Probe, ok bool) {
	c, t := &k.state.Containers[i], &k.tasks[i]
	switch {
	case kind == probe.Readiness:
		c.Ready = ok
		k.report.dirty = true
	case ok && kind == probe.Startup:
		t.calm()
		k.up(i)
		k.report.dirty = true
	case !ok && c.Phase == podstate.Running:
		message := fmt.Sprintf("Container %s failed %s probe", c.Spec.Name, kind)
		if k.state.RestartsAfterFailure(c) {
			message += ", will be restarted"
		}
		k.stopAlone(i, message, p.TerminationGracePeriodSeconds)
	}
}
