package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/probe"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// startLifecycle begins what goes with a process that was just started: its postStart
// hook, then its probes.
func (c *container) startLifecycle() {
	c.beginLife()
	l := c.Spec.Lifecycle
	if l == nil || l.PostStart == nil {
		c.startProbes()
		return
	}
	c.Hook, c.hooking = true, true
	life, id, handler, target := c.life, c.ID, l.PostStart, c.target()
	c.pod.tasks.Go(func() {
		err := probe.Hook(life, handler, target)
		c.pod.post(func() { c.postStartDone(id, err) })
	})
}

// resumeLifecycle does the same for a process that a former run of the node has
// started. Its hook is not run again.
func (c *container) resumeLifecycle() {
	c.beginLife()
	c.startProbes()
}

// beginLife gives the container's process a context.
func (c *container) beginLife() {
	c.life, c.end = context.WithCancel(c.pod.ctx)
	c.stopProbes = func() {}
}

// endLife ends what went with a process.
func (c *container) endLife() {
	if c.end != nil {
		c.end()
	}
	c.hooking = false
}

// postStartDone goes on when the postStart hook of the process id has returned.
func (c *container) postStartDone(id string, err error) {
	if c.ID != id || !c.HasProcess() {
		return
	}
	c.hooking = false
	c.pod.dirty = true
	if err == nil {
		c.Hook = false
		if c.Phase == podstate.Running {
			c.startProbes()
		}
		return
	}
	c.pod.log().Info("a postStart hook failed", "container", id, "err", err)
	c.note(warning, reason.FailedPostStartHook, "PostStartHook failed")
	c.Reason, c.Message = "PostStartHookError", "PostStartHook failed: "+err.Error()
	if c.Phase == podstate.Running {
		c.stopAlone("FailedPostStartHook", nil)
	}
}

// target returns how the container's process is reached.
func (c *container) target() probe.Target {
	run, id := c.runner(), c.ID
	at := c.pod.addresses(c.pod.state.Object)
	return probe.Target{
		IP: at.PodIP(), Ports: c.Spec.Ports, Dial: dialer(run, c.pod.ref.UID, at),
		Exec: func(ctx context.Context, args []string, timeout time.Duration) (runner.ExecResult, error) {
			return runner.ExecOutput(ctx, run, id, args, timeout)
		},
	}
}

// startProbes begins the container's probes: the startup probe first, then the others.
func (c *container) startProbes() {
	c.pod.dirty = true
	if c.Started || c.Spec.StartupProbe == nil {
		c.startupDone()
		return
	}
	c.Started, c.Ready = false, false
	probing, cancel := context.WithCancel(c.life)
	c.stopProbes = cancel
	c.runProbe(probing, probe.Startup, c.Spec.StartupProbe)
}

// startupDone goes on when the container has started in the sense of its startup probe.
func (c *container) startupDone() {
	c.Started = true
	if p := c.Spec.ReadinessProbe; p != nil {
		c.runProbe(c.life, probe.Readiness, p)
	} else {
		c.Ready = true
	}
	if p := c.Spec.LivenessProbe; p != nil {
		probing, cancel := context.WithCancel(c.life)
		c.stopProbes = cancel
		c.runProbe(probing, probe.Liveness, p)
	}
}

// runProbe runs one probe of the container until ctx ends.
func (c *container) runProbe(ctx context.Context, kind probe.Kind, p *corev1.Probe) {
	state, object, target := *c.Container, c.pod.state.Object, c.target()
	record := func(reason, message string) {
		c.pod.Client.Record(note(object, &state, warning, reason, message))
	}
	c.pod.tasks.Go(func() {
		probe.Run(ctx, kind, p, state.StartedAt, target, record, func(ok bool) {
			c.pod.post(func() {
				if ctx.Err() == nil {
					c.probed(kind, p, ok)
				}
			})
		})
	})
}

// probed acts on a probe's verdict, which has changed.
func (c *container) probed(kind probe.Kind, p *corev1.Probe, ok bool) {
	switch {
	case kind == probe.Readiness:
		c.Ready = ok
		c.pod.dirty = true
	case ok && kind == probe.Startup:
		c.stopProbes()
		c.startupDone()
		c.pod.dirty = true
	case !ok && c.Phase == podstate.Running:
		message := fmt.Sprintf("Container %s failed %s probe", c.Spec.Name, kind)
		if c.pod.state.RestartsAfterFailure(c.Container) {
			message += ", will be restarted"
		}
		c.stopAlone(message, p.TerminationGracePeriodSeconds)
	}
}

// stopAlone stops the container while its pod lives on. grace is nil for the pod's own.
func (c *container) stopAlone(message string, grace *int64) {
	s := podstate.Stop{Since: time.Now(), Grace: c.pod.state.Grace(), Alone: true}
	if grace != nil {
		s.Grace = kind.Seconds(*grace)
	}
	c.stop(message, s)
}

// stop begins the container's end: its preStop hook runs at once, its stop signal
// follows when the hook has returned and it is its turn. message is what the Event
// says; "" is for the usual.
func (c *container) stop(message string, s podstate.Stop) {
	c.Phase, c.Stop = podstate.Stopping, s
	c.pod.dirty = true
	if message == "" {
		message = "Stopping container " + c.Spec.Name
	}
	c.note(normal, reason.Killing, message)
	c.stopProbes()
	if l := c.Spec.Lifecycle; l != nil && l.PreStop != nil && s.Grace > 0 && !c.hooking {
		c.preStop()
	}
}

// preStop runs the container's preStop hook, which has until the end of the grace
// period.
func (c *container) preStop() {
	c.Stop.Hook = true
	life, id, handler, target := c.life, c.ID, c.Spec.Lifecycle.PreStop, c.target()
	deadline := c.Stop.Since.Add(c.Stop.Grace)
	c.pod.tasks.Go(func() {
		ctx, cancel := context.WithDeadline(life, deadline)
		defer cancel()
		err := probe.Hook(ctx, handler, target)
		failed := err != nil && ctx.Err() == nil
		c.pod.post(func() {
			if failed {
				c.pod.log().Info("a preStop hook failed", "container", id, "err", err)
				c.note(warning, reason.FailedPreStopHook, "PreStopHook failed")
			}
			if c.ID == id {
				c.Stop.Hook = false
			}
		})
	})
}

// terminate sends the container the signal that asks it to end.
func (c *container) terminate(now time.Time) {
	c.Stop.Signaled = now
	c.signal(stopSignal(c.Spec, c.stopSignal))
}

// kill ends the container's process.
func (c *container) kill() {
	c.Stop.Killed = true
	c.signal(int(unix.SIGKILL))
}

// signal sends a signal to the container, beside the worker.
func (c *container) signal(sig int) {
	p, run, id := c.pod, c.runner(), c.ID
	p.tasks.Go(func() {
		err := run.Signal(p.ctx, id, sig)
		if err != nil && !errors.Is(err, runner.ErrEnded) && !errors.Is(err, runner.ErrNotFound) && p.ctx.Err() == nil {
			p.log().Warn("cannot signal a container", "container", id, "signal", sig, "err", err)
		}
	})
}

// stopSignal is the signal that asks a container to end: what the pod says, else its
// image.
func stopSignal(c *corev1.Container, image string) int {
	name := image
	if l := c.Lifecycle; l != nil && l.StopSignal != nil {
		name = string(*l.StopSignal)
	}
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		return n
	}
	if name != "" && !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return int(sig)
	}
	return int(unix.SIGTERM)
}
