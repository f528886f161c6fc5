package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// attempt is one attempt to run a container, from its image to its end. It
// runs beside the pod worker and shares nothing with it but what is immutable.
type attempt struct {
	worker *podWorker
	index  int
	number int
	pod    *corev1.Pod
	// container is a copy: what the pod worker knew when the attempt began.
	container podstate.Container
	class     runner.Class
	runner    runner.Runner
	id        string
	image     *Image
}

// containerID is how the runner knows an attempt.
func containerID(ref runner.PodRef, container string, number int) string {
	return ref.UID + "_" + container + "_" + strconv.Itoa(number)
}

// start begins an attempt to run container i.
func (w *podWorker) start(i int, now time.Time) {
	c := &w.state.Containers[i]
	if c.Phase == podstate.Exited {
		c.Retry = c.Retry.Restarted(now)
	}
	c.Phase = podstate.Starting
	ctx, cancel := context.WithCancel(w.ctx)
	w.tasks[i].cancel = cancel
	a := w.attempt(i, c.Attempt+1)
	w.agent.tasks.Go(func() {
		defer cancel()
		a.run(ctx)
	})
}

// attempt describes attempt number of container i.
func (w *podWorker) attempt(i, number int) *attempt {
	c := &w.state.Containers[i]
	return &attempt{
		worker: w, index: i, number: number, pod: w.state.Object, container: *c,
		class: w.tasks[i].class, runner: w.runner(i),
		id: containerID(w.ref, c.Spec.Name, number),
	}
}

// run starts the container and waits for its end.
func (a *attempt) run(ctx context.Context) {
	w := a.worker
	st, spec, err := a.launch(ctx)
	if err != nil {
		if w.ctx.Err() == nil {
			cancelled := ctx.Err() != nil
			w.post(func() { w.failed(a, err, cancelled) })
		}
		return
	}
	user := containerUser(spec)
	w.post(func() { w.started(a, st, user) })
	a.wait(w.ctx)
}

// wait waits for the container's end.
func (a *attempt) wait(ctx context.Context) {
	w := a.worker
	st, err := a.runner.Wait(ctx, a.id)
	for err != nil && ctx.Err() == nil {
		if errors.Is(err, runner.ErrNotFound) {
			// The runner does not know what it started: how it ended will never be known.
			st = runner.Status{ID: a.id, Phase: runner.Exited, ExitCode: 137, FinishedAt: time.Now(), Lost: true}
			break
		}
		// As long as the runner cannot be asked, the container may well be alive.
		w.log().Warn("cannot wait for a container", "container", a.id, "err", err)
		sleep(ctx, time.Second)
		st, err = a.runner.Wait(ctx, a.id)
	}
	if ctx.Err() != nil {
		return
	}
	exit := a.exit(st)
	w.post(func() {
		w.outputLost(st, time.Now())
		w.exited(a, exit, st.FinishedAt)
	})
}

// launch gets the image and starts the process.
func (a *attempt) launch(ctx context.Context) (runner.Status, *runner.Spec, error) {
	if err := a.ensureImage(ctx); err != nil {
		return runner.Status{}, nil, err
	}
	spec, err := a.spec(ctx)
	if err != nil {
		return runner.Status{}, nil, err
	}
	// From here on the container may exist: the pod worker's end, not that of the
	// attempt, interrupts.
	st, err := a.runner.Start(a.worker.ctx, spec)
	if errors.Is(err, runner.ErrNoVolume) {
		// The supervisor has died since it was made, and a volume in memory with it.
		if err = a.worker.agent.setVolumes(a.worker.ctx, a.pod); err == nil {
			st, err = a.runner.Start(a.worker.ctx, spec)
		}
	}
	if errors.Is(err, runner.ErrExists) {
		// An earlier Start has done it, and its answer was lost.
		st, err = a.find()
	}
	if err != nil {
		a.worker.agent.files.RemoveTerminationLog(a.id)
		return st, nil, err
	}
	a.note(normal, reason.Created, "Container created")
	a.note(normal, reason.Started, "Container started")
	return st, spec, nil
}

// find returns the status of the attempt's container, which exists.
func (a *attempt) find() (runner.Status, error) {
	list, err := a.runner.List(a.worker.ctx)
	if err != nil {
		return runner.Status{}, err
	}
	for _, st := range list {
		if st.ID == a.id {
			return st, nil
		}
	}
	return runner.Status{}, runner.ErrNotFound
}

// spec returns what the runner is told.
func (a *attempt) spec(ctx context.Context) (*runner.Spec, error) {
	o := &a.worker.agent.opts
	in := &runspec.Input{
		Pod: a.pod, Container: a.container.Spec, Class: a.class,
		Addresses: o.Network.Of(a.pod), Allocatable: o.Node.Allocatable(), Hostname: network.Hostname(a.pod, o.Node.Name()),
		ImageEnv: o.HostEnv, PodPids: o.PodPids,
	}
	if img := a.image; img != nil {
		in.Layers, in.Entrypoint, in.Cmd, in.ImageEnv = img.Layers, img.Entrypoint, img.Cmd, img.Env
		in.WorkingDir, in.ImageUser = img.WorkingDir, img.User
		in.LookupUser = func(user string) (runspec.User, error) { return o.Images.LookupUser(ctx, img, user) }
	}
	refs := objects{ctx, o.Client, a.pod.Namespace}
	in.Mounts = func(env *runspec.Env) ([]runner.Mount, error) {
		mounts, err := a.worker.agent.volumesOf(ctx, a.pod).Mounts(a.container.Spec, env)
		if err == nil && a.class != runner.Host {
			mounts = a.worker.agent.files.EtcMounts(a.pod, a.container.Spec, mounts)
		}
		return mounts, err
	}
	spec, err := runspec.New(in, refs)
	if err != nil {
		return nil, err
	}
	if names := runspec.Withheld(in); len(names) > 0 && a.number == 0 {
		a.note(warning, reason.CapabilityWithheld, fmt.Sprintf("Container %s does not get %s: pods share this machine's network, and only those with hostNetwork: true have power over it",
			spec.Container, strings.Join(names, " and ")))
	}
	spec.ID, spec.Attempt = a.id, a.number
	spec.Pod = runner.PodRef{Namespace: a.pod.Namespace, Name: a.pod.Name, UID: string(a.pod.UID)}
	spec.LogPath = a.worker.agent.files.Log(a.worker.ref, spec.Container, a.number)
	if a.number >= 2 { // one earlier log is kept
		a.worker.dropLog(spec.Container, a.number-2)
	}
	return spec, a.makeTerminationLog(spec)
}

// objects looks up what a pod refers to.
type objects struct {
	ctx       context.Context
	client    Client
	namespace string
}

func (o objects) ConfigMap(name string) (*corev1.ConfigMap, error) {
	cm, err := o.client.ConfigMap(o.ctx, o.namespace, name)
	return cm, named(err, "configmap", name)
}

func (o objects) Secret(name string) (*corev1.Secret, error) {
	secret, err := o.client.Secret(o.ctx, o.namespace, name)
	return secret, named(err, "secret", name)
}

// named gives the error for an absent object a kubelet's words.
func named(err error, kind, name string) error {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(corev1.Resource(kind), name)
	}
	return err
}

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

func (a *attempt) note(kind, reason, message string) {
	a.worker.agent.opts.Client.Record(note(a.pod, &a.container, kind, reason, message))
}

// started takes that the process of an attempt runs.
func (w *podWorker) started(a *attempt, st runner.Status, user *corev1.ContainerUser) {
	c := &w.state.Containers[a.index]
	if c.Exit != nil {
		c.Last, c.Exit = c.Exit, nil
	}
	c.Phase, c.Attempt, c.ID, c.StartedAt = podstate.Running, a.number, a.id, st.StartedAt
	c.Reason, c.Message, c.Pull = "", "", podstate.Backoff{}
	c.Image, c.ImageID, c.User = "", "", user
	if a.image != nil {
		describe(c, a.image)
		w.tasks[a.index].stopSignal = a.image.StopSignal
	}
	w.report.dirty = true
	w.limitsIgnored(st)
	w.contextIgnored(a)
	w.startLifecycle(a.index)
	w.handOver(a)
}

// describe says of which image a container runs.
func describe(c *podstate.Container, img *Image) {
	c.Image, c.ImageID = img.Ref, img.Digest
	if c.ImageID == "" {
		c.ImageID = img.ID
	}
}

// limitsIgnored says once per pod that its resource limits have no effect.
func (w *podWorker) limitsIgnored(st runner.Status) {
	if st.LimitsIgnored != "" && !w.saidLimits {
		w.saidLimits = true
		w.note(nil, warning, reason.LimitsIgnored, "Resource requests and limits are not enforced on this node: "+st.LimitsIgnored)
	}
}

// contextIgnored says once per pod what of its security context has no effect.
func (w *podWorker) contextIgnored(a *attempt) {
	if a.class != runner.Host || w.saidContext {
		return
	}
	if names := runspec.HostIgnores(a.pod, a.container.Spec); len(names) > 0 {
		w.saidContext = true
		w.note(nil, warning, reason.SecurityContextIgnored,
			"A container of the runtime class host is a process of this machine; without effect: "+strings.Join(names, ", "))
	}
}

// exited takes that a container's process has ended.
func (w *podWorker) exited(a *attempt, exit *corev1.ContainerStateTerminated, at time.Time) {
	c := &w.state.Containers[a.index]
	w.endLife(a.index)
	c.Phase, c.Exit = podstate.Exited, exit
	c.Hook, c.Started, c.Ready = false, false, false
	c.Stop = podstate.Stop{}
	c.Reason, c.Message = "", ""
	c.Retry = c.Retry.AfterExit(at)
	w.report.dirty = true
	w.report.ended = append(w.report.ended, ended{a.runner, a.id})
}

// configRetry is how soon a container is tried again that could not be made.
const configRetry = 10 * time.Second

// failed takes that an attempt did not come to a running process.
func (w *podWorker) failed(a *attempt, err error, cancelled bool) {
	c := &w.state.Containers[a.index]
	now := time.Now()
	w.report.dirty = true
	c.Phase = podstate.Waiting
	if c.Exit != nil {
		c.Phase = podstate.Exited
	}
	if cancelled {
		return
	}
	var image *ImageError
	var start *runner.StartError
	var config *runspec.ConfigError
	switch {
	case errors.As(err, &image):
		c.Reason, c.Message = image.Reason, image.Message
		c.Pull = c.Pull.AfterFailure(now)
		c.Retry.Until = c.Pull.Until
		w.note(c, warning, reason.Failed, "Error: "+image.Reason)
		return
	case errors.As(err, &start) && start.Code != 0:
		w.note(c, normal, reason.Created, "Container created")
		w.note(c, warning, reason.Failed, "Error: "+start.Message)
		w.unstartable(a, start, now)
		return
	case errors.As(err, &start):
		c.Reason, c.Message = start.Reason, start.Message
	case errors.As(err, &config):
		c.Reason, c.Message = "CreateContainerConfigError", config.Message
	default:
		c.Reason, c.Message = "CreateContainerError", err.Error()
		w.uncertain = true
	}
	w.note(c, warning, reason.Failed, "Error: "+c.Message)
	c.Retry.Until = now.Add(configRetry)
}

// unstartable takes that the container's command could not be executed: that
// counts as an attempt that ended.
func (w *podWorker) unstartable(a *attempt, err *runner.StartError, now time.Time) {
	c := &w.state.Containers[a.index]
	if c.Exit != nil {
		c.Last = c.Exit
	}
	at := apiTime(now)
	c.Phase, c.Attempt, c.ID = podstate.Exited, a.number, a.id
	c.Exit = &corev1.ContainerStateTerminated{
		ExitCode: int32(err.Code), Reason: err.Reason, Message: err.Message,
		StartedAt: at, FinishedAt: at, ContainerID: podstate.ContainerID(a.id),
	}
	c.Reason, c.Message = "", ""
	c.Retry = c.Retry.AfterExit(now)
	w.log().Debug("a container could not be started", "container", a.id, "err", err)
}
