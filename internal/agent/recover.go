package agent

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
)

// recoverContainers takes up what a former run of the node has left of the containers of a pod:
// what the API says, and what the runners still have, found. The runners know better.
func recoverContainers(p *pod, list []*container, found []runner.Status) {
	newest := make(map[string]*runner.Status)
	for i := range found {
		st := &found[i]
		if old := newest[st.Container]; old == nil || st.Attempt > old.Attempt {
			newest[st.Container] = st
		}
	}
	recallResize(p)
	for i := range found {
		if st := &found[i]; newest[st.Container] != st {
			p.ended = append(p.ended, endedContainer{p.Runners[st.Class], st.ID})
		}
	}
	for _, c := range list {
		if st := statusOf(&p.state.Object.Status, c.Container); st != nil {
			c.recall(st)
		}
		c.reconcile(newest[c.Spec.Name])
		if c.Attempt >= 0 {
			p.state.Ready = true // its volumes were made before
		}
	}
}

// recallResize takes up a resize that was under way.
func recallResize(p *pod) {
	for name, state := range map[corev1.PodConditionType]**podstate.ResizeState{
		corev1.PodResizePending: &p.state.Resize.Pending, corev1.PodResizeInProgress: &p.state.Resize.InProgress,
	} {
		if c := kind.PodCondition(p.state.Object, name); c != nil {
			*state = &podstate.ResizeState{Reason: c.Reason, Message: c.Message, Generation: c.ObservedGeneration}
		}
	}
}

// statusOf returns what the status of a pod says about c, nil if nothing.
func statusOf(s *corev1.PodStatus, c *podstate.Container) *corev1.ContainerStatus {
	list := s.InitContainerStatuses
	switch c.Kind {
	case podstate.Main:
		list = s.ContainerStatuses
	case podstate.Ephemeral:
		list = s.EphemeralContainerStatuses
	}
	for i := range list {
		if list[i].Name == c.Spec.Name {
			return &list[i]
		}
	}
	return nil
}

// recall sets c to what the API says about it.
func (c *container) recall(st *corev1.ContainerStatus) {
	id, ok := strings.CutPrefix(st.ContainerID, podstate.IDScheme)
	if !ok {
		return
	}
	c.ID, c.Image, c.ImageID, c.User = id, st.Image, st.ImageID, st.User
	c.Attempt = int(st.RestartCount)
	conditions := &c.pod.state.Resize
	c.Recall(st, conditions.Pending != nil, conditions.InProgress != nil)
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

// reconcile brings what the API says about c together with what its runner has, nil if
// nothing.
func (c *container) reconcile(st *runner.Status) {
	if st == nil {
		if c.Phase == podstate.Running {
			c.vanished()
		}
		return
	}
	c.class = st.Class
	known := c.ID == st.ID
	a := newAttempt(c, st.Attempt)
	a.id = st.ID
	switch {
	case known && c.Phase == podstate.Exited:
		// The API knows; only the runner has not forgotten yet.
		c.pod.ended = append(c.pod.ended, endedContainer{a.runner, a.id})
		return
	case !known:
		if c.Exit != nil {
			c.Last, c.Exit = c.Exit, nil
		}
		c.ID, c.Attempt = st.ID, st.Attempt
		c.Started, c.Ready = false, false
	}
	c.Phase, c.StartedAt = podstate.Running, st.StartedAt
	c.limitsIgnored(st.LimitsIgnored)
	c.outputLost(*st, time.Now())
	if st.Phase == runner.Exited {
		c.exited(a, a.exit(*st), st.FinishedAt)
		return
	}
	c.pod.dirty = true
	c.pod.tasks.Go(func() {
		c.holdImage(a)
		c.awaitEnd(a)
	})
	c.resumeLifecycle()
}

// holdImage takes hold again of the image of a container that runs already, beside the
// worker.
func (c *container) holdImage(a *attempt) {
	if a.class == runner.Host {
		return
	}
	img, err := a.pod.Images.Ensure(a.pod.ctx, ImageRequest{
		Ref: a.container.Spec.Image, Policy: corev1.PullNever, PodUID: a.pod.ref.UID,
	})
	if err != nil {
		a.pod.log().Info("the image of a running container is not here any more", "container", a.id, "image", a.container.Spec.Image)
		return
	}
	for _, v := range imageVolumesOf(a.object, a.container.Spec) {
		// One that is not here any more is shown all the same, as long as its layers are.
		_, _ = a.pod.Images.Ensure(a.pod.ctx, ImageRequest{Ref: v.Image.Reference, Policy: corev1.PullNever, PodUID: a.pod.ref.UID})
	}
	a.pod.post(func() {
		if c.ID == a.id && c.ImageID == "" { // the node ended before it could tell
			c.describe(img)
			c.pod.dirty = true
		}
	})
}

// vanished records that no runner knows a container of which the API says that it runs.
func (c *container) vanished() {
	now := time.Now()
	c.Phase = podstate.Exited
	c.Exit = &corev1.ContainerStateTerminated{
		ExitCode: 137, Reason: "ContainerStatusUnknown",
		Message:   "The container could not be located when the pod was deleted.  The container used to be Running",
		StartedAt: podstate.Seconds(c.StartedAt), FinishedAt: podstate.Seconds(now), ContainerID: podstate.ContainerID(c.ID),
	}
	c.Started, c.Ready = false, false
	c.Retry = c.Retry.AfterExit(now)
	c.pod.dirty = true
}
