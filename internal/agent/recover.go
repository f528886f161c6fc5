package agent

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/runner"
)

// recover takes up what a former run of the node has left of the pod: what the
// API says, and the containers that the runners still have. The runners know
// better.
func (w *podWorker) recover() {
	pod := w.state.Object
	class := w.agent.class(pod)
	for i := range w.state.Containers {
		w.tasks[i].class = class
		c := &w.state.Containers[i]
		if st := findIn(&pod.Status, c); st != nil {
			recall(c, st)
		}
	}
	newest := make(map[string]*runner.Status)
	for i := range w.found {
		st := &w.found[i]
		if old := newest[st.Container]; old == nil || st.Attempt > old.Attempt {
			newest[st.Container] = st
		}
	}
	for i := range w.found {
		if st := &w.found[i]; newest[st.Container] != st {
			w.report.ended = append(w.report.ended, ended{w.agent.opts.Runners[st.Class], st.ID})
		}
	}
	for i := range w.state.Containers {
		w.reconcile(i, newest[w.state.Containers[i].Spec.Name])
	}
	w.found = nil
	for i := range w.state.Containers {
		if w.state.Containers[i].Attempt >= 0 {
			w.state.Ready = true // its volumes were made before
		}
	}
}

// findIn returns what a status says about c, nil if nothing.
func findIn(s *corev1.PodStatus, c *podstate.Container) *corev1.ContainerStatus {
	list := s.ContainerStatuses
	if c.Kind != podstate.Main {
		list = s.InitContainerStatuses
	}
	for i := range list {
		if list[i].Name == c.Spec.Name {
			return &list[i]
		}
	}
	return nil
}

// recall sets c to what the API says about it.
func recall(c *podstate.Container, st *corev1.ContainerStatus) {
	id, ok := strings.CutPrefix(st.ContainerID, podstate.IDScheme)
	if !ok {
		return
	}
	c.ID, c.Image, c.ImageID, c.User = id, st.Image, st.ImageID, st.User
	c.Attempt = int(st.RestartCount)
	c.Exit, c.Last = st.State.Terminated, st.LastTerminationState.Terminated
	switch {
	case st.State.Running != nil:
		c.Phase, c.StartedAt = podstate.Running, st.State.Running.StartedAt.Time
		c.Started = st.Started != nil && *st.Started
		c.Ready = st.Ready
	case c.Exit != nil:
		c.Phase = podstate.Exited
	case c.Last != nil && c.Last.ContainerID == st.ContainerID:
		// It was waiting to be started again.
		c.Phase, c.Exit, c.Last = podstate.Exited, c.Last, nil
	default:
		// Its process ran, and the postStart hook had not returned.
		c.Phase = podstate.Running
	}
}

// reconcile brings what the API says about container i together with what the
// runner has, nil if nothing.
func (w *podWorker) reconcile(i int, st *runner.Status) {
	c := &w.state.Containers[i]
	if st == nil {
		if c.Phase == podstate.Running {
			w.vanished(i)
		}
		return
	}
	w.tasks[i].class = st.Class
	known := c.ID == st.ID
	a := w.attempt(i, st.Attempt)
	a.id = st.ID
	switch {
	case known && c.Phase == podstate.Exited:
		// The API knows; only the runner has not forgotten yet.
		w.report.ended = append(w.report.ended, ended{a.runner, a.id})
		return
	case !known:
		if c.Exit != nil {
			c.Last, c.Exit = c.Exit, nil
		}
		c.ID, c.Attempt = st.ID, st.Attempt
		c.Started, c.Ready = false, false
	}
	c.Phase, c.StartedAt = podstate.Running, st.StartedAt
	w.limitsIgnored(*st)
	w.outputLost(*st, time.Now())
	if st.Phase == runner.Exited {
		w.exited(a, a.exit(*st), st.FinishedAt)
		return
	}
	w.report.dirty = true
	w.agent.tasks.Go(func() {
		a.hold()
		a.wait(w.ctx)
	})
	w.resumeLifecycle(i)
}

// hold takes hold again of the image of a container that runs already.
func (a *attempt) hold() {
	w := a.worker
	if a.class == runner.Host {
		return
	}
	img, err := w.agent.opts.Images.Ensure(w.ctx, ImageRequest{
		Ref: a.container.Spec.Image, Policy: corev1.PullNever, PodUID: string(a.pod.UID),
	})
	if err != nil {
		w.log().Info("the image of a running container is not here any more", "container", a.id, "image", a.container.Spec.Image)
		return
	}
	w.post(func() {
		c := &w.state.Containers[a.index]
		if c.ID == a.id && c.ImageID == "" { // the node ended before it could tell
			describe(c, img)
			w.report.dirty = true
		}
	})
}

// vanished takes that a container of which the API says that it runs is not
// known to any runner.
func (w *podWorker) vanished(i int) {
	c := &w.state.Containers[i]
	now := time.Now()
	c.Phase = podstate.Exited
	c.Exit = &corev1.ContainerStateTerminated{
		ExitCode: 137, Reason: "ContainerStatusUnknown",
		Message:   "The container could not be located when the pod was deleted.  The container used to be Running",
		StartedAt: apiTime(c.StartedAt), FinishedAt: apiTime(now), ContainerID: podstate.ContainerID(c.ID),
	}
	c.Started, c.Ready = false, false
	c.Retry = c.Retry.AfterExit(now)
	w.report.dirty = true
}

// class is the kind of isolation that the pod asks for.
func (a *Agent) class(pod *corev1.Pod) runner.Class {
	if name := pod.Spec.RuntimeClassName; name != nil {
		return runner.Class(*name)
	}
	return a.opts.Class
}

// orphansLocked ends the containers whose pods exist no more.
func (a *Agent) orphansLocked(ctx context.Context) {
	for uid, list := range a.found {
		ref := runner.PodRef{UID: uid}
		if len(list) > 0 {
			ref.Namespace, ref.Name = list[0].Pod.Namespace, list[0].Pod.Name
		}
		a.tasks.Go(func() {
			a.discard(ctx, ref, list)
			a.files.RemoveLogs(ref)
		})
	}
}

// discard ends and removes containers that nobody wants any more: a stop
// signal, two seconds, SIGKILL.
func (a *Agent) discard(ctx context.Context, ref runner.PodRef, list []runner.Status) {
	for _, st := range list {
		r := a.opts.Runners[st.Class]
		if st.Phase != runner.Exited {
			r.Signal(ctx, st.ID, int(unix.SIGTERM))
		}
	}
	deadline, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, st := range list {
		r := a.opts.Runners[st.Class]
		if st.Phase == runner.Exited {
			continue
		}
		if _, err := r.Wait(deadline, st.ID); err != nil && ctx.Err() == nil {
			r.Signal(ctx, st.ID, int(unix.SIGKILL))
			r.Wait(ctx, st.ID)
		}
	}
	for _, st := range list {
		if err := a.opts.Runners[st.Class].Remove(ctx, st.ID); err != nil && ctx.Err() == nil {
			a.log.Warn("cannot remove a container", "container", st.ID, "err", err)
		}
	}
	a.releasePod(ctx, ref, nil)
}
