package agent

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// start begins the next attempt to run the container.
func (c *container) start(sees target, now time.Time) {
	if c.Phase == podstate.Exited {
		c.Retry = c.Retry.Restarted(now)
	}
	c.Phase = podstate.Starting
	ctx, cancel := context.WithCancel(c.pod.ctx)
	c.cancel = cancel
	a := newAttempt(c, c.Attempt+1)
	a.sees = sees
	a.waits = func(text string) { c.waits(a.number, text) }
	c.pod.tasks.Go(func() {
		defer cancel()
		c.run(ctx, a)
	})
}

// waits shows what the attempt to run the container waits for.
func (c *container) waits(number int, text string) {
	if c.Phase == podstate.Starting && number == c.Attempt+1 {
		c.Reason, c.Message = "", text
		c.pod.dirty = true
	}
}

// run starts the process of an attempt and waits for its end, beside the worker.
func (c *container) run(ctx context.Context, a *attempt) {
	st, spec, err := a.launch(ctx)
	a.endTurn()
	if err != nil {
		if a.pod.ctx.Err() == nil {
			cancelled := ctx.Err() != nil
			a.pod.post(func() { c.failed(a, err, cancelled) })
		}
		return
	}
	user := containerUser(spec)
	a.pod.post(func() { c.started(a, st, user) })
	c.awaitEnd(a)
}

// awaitEnd waits for the end of a process that runs, beside the worker.
func (c *container) awaitEnd(a *attempt) {
	st, ok := a.wait()
	if !ok {
		return
	}
	exit := a.exit(st)
	a.pod.post(func() {
		c.outputLost(st, time.Now())
		c.exited(a, exit, st.FinishedAt)
	})
}

// containerUser is what the status says of the user that a container runs as.
func containerUser(spec *runner.Spec) *corev1.ContainerUser {
	if spec.UID == nil || spec.GID == nil {
		return nil
	}
	u := &corev1.LinuxContainerUser{UID: int64(*spec.UID), GID: int64(*spec.GID)}
	u.SupplementalGroups = append(u.SupplementalGroups, u.GID)
	for _, g := range spec.Groups {
		if g != *spec.GID {
			u.SupplementalGroups = append(u.SupplementalGroups, int64(g))
		}
	}
	return &corev1.ContainerUser{Linux: u}
}

// started records that the process of an attempt runs.
func (c *container) started(a *attempt, st runner.Status, user *corev1.ContainerUser) {
	if c.Exit != nil {
		c.Last, c.Exit = c.Exit, nil
	}
	c.hasStarted(&a.container)
	c.Phase, c.Attempt, c.ID, c.StartedAt = podstate.Running, a.number, a.id, st.StartedAt
	c.Reason, c.Message, c.Pull = "", "", podstate.Backoff{}
	c.User = user
	c.describe(a.image)
	if a.image != nil {
		c.stopSignal = a.image.StopSignal
	}
	c.pod.dirty = true
	c.limitsIgnored(st.LimitsIgnored)
	c.contextIgnored(a)
	c.startLifecycle()
	c.handOver(a)
}

// describe records which image the container is of; nil: of none, as in class host.
func (c *container) describe(img *Image) {
	if img == nil {
		c.Image, c.ImageID = "", ""
		return
	}
	c.Image, c.ImageID = img.Ref, cmp.Or(img.Digest, img.ID)
}

// contextIgnored says once per pod what of its security context has no effect.
func (c *container) contextIgnored(a *attempt) {
	if a.class != runner.Host || c.pod.saidContext {
		return
	}
	if names := runspec.HostIgnores(a.object, a.container.Spec); len(names) > 0 {
		c.pod.saidContext = true
		c.pod.note(warning, reason.SecurityContextIgnored,
			"A container of the runtime class host is a process of this machine; without effect: "+strings.Join(names, ", "))
	}
}

// handOver hands the log of an attempt that was just started to whoever is owed it.
func (c *container) handOver(a *attempt) {
	p, name := c.pod, a.container.Spec.Name
	if p.HandLog == nil {
		return
	}
	opts := crilog.Options{Follow: true, Ended: c.life.Done(), Timestamps: p.HandLogTimes}
	// Not with the worker's context, which ends with the pod.
	log, err := p.logs.open(context.WithoutCancel(p.ctx), p.ref.UID, p.files.Log(p.ref, name, a.number), opts, true)
	if err != nil {
		out, in := io.Pipe()
		in.CloseWithError(err)
		p.HandLog(a.object, name, a.number, out)
		return
	}
	p.HandLog(a.object, name, a.number, log)
}

// exited records that the process of an attempt has ended.
func (c *container) exited(a *attempt, exit *corev1.ContainerStateTerminated, at time.Time) {
	c.endLife()
	c.Phase, c.Exit = podstate.Exited, exit
	c.Hook, c.Started, c.Ready = false, false, false
	c.Stop = podstate.Stop{}
	c.Reason, c.Message = "", ""
	c.Retry = c.Retry.AfterExit(at)
	c.pod.dirty = true
	c.pod.ended = append(c.pod.ended, endedContainer{a.runner, a.id})
}

// shortened is as much of a message as a termination message may have: it quotes an image or
// a manifest, which may have a name of megabytes for a user or a command.
func shortened(message string) string {
	if len(message) <= maxTermination {
		return message
	}
	return strings.ToValidUTF8(message[:maxTermination], "") + "…"
}

// configRetry is how soon a container is tried again that could not be made.
const configRetry = 10 * time.Second

// failed records that an attempt did not come to a running process.
func (c *container) failed(a *attempt, err error, cancelled bool) {
	now := time.Now()
	c.pod.dirty = true
	c.Phase = podstate.Waiting
	if c.Exit != nil {
		c.Phase = podstate.Exited
	}
	if cancelled {
		if c.Reason == "" {
			c.Message = "" // what it waited for
		}
		return
	}
	var image *ImageError
	var start *runner.StartError
	var config *runspec.ConfigError
	switch {
	case errors.As(err, &image):
		c.Reason, c.Message, c.Pulling = image.Reason, shortened(image.Message), image.Ref
		c.Pull = c.Pull.AfterFailure(now)
		c.Retry.Until = c.Pull.Until
		c.note(warning, reason.Failed, "Error: "+image.Reason)
		return
	case errors.As(err, &start) && start.Code != 0:
		c.note(normal, reason.Created, "Container created")
		c.note(warning, reason.Failed, "Error: "+shortened(start.Message))
		c.unstartable(a, start, now)
		return
	case errors.As(err, &start):
		c.Reason, c.Message = start.Reason, shortened(start.Message)
	case errors.As(err, &config):
		c.Reason, c.Message = "CreateContainerConfigError", shortened(config.Message)
	default:
		c.Reason, c.Message = "CreateContainerError", shortened(err.Error())
		c.pod.uncertain = true
	}
	c.note(warning, reason.Failed, "Error: "+c.Message)
	c.Retry.Until = now.Add(configRetry)
}

// unstartable records that the container's command could not be executed: that
// counts as an attempt that ended.
func (c *container) unstartable(a *attempt, err *runner.StartError, now time.Time) {
	if c.Exit != nil {
		c.Last = c.Exit
	}
	at := podstate.Seconds(now)
	c.Phase, c.Attempt, c.ID = podstate.Exited, a.number, a.id
	c.describe(a.image)
	c.Exit = &corev1.ContainerStateTerminated{
		ExitCode: int32(err.Code), Reason: err.Reason, Message: shortened(err.Message),
		StartedAt: at, FinishedAt: at, ContainerID: podstate.ContainerID(a.id),
	}
	c.Reason, c.Message = "", ""
	c.Retry = c.Retry.AfterExit(now)
	c.pod.log().Debug("a container could not be started", "container", a.id, "err", err)
}
