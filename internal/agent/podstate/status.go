package podstate

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// Status returns the status to be reported at now, given what the API says at
// present. over says that nothing of the pod runs and nothing will be started. The
// result shares memory with present and with the pod's object.
func Status(p *Pod, at network.Addresses, present *corev1.PodStatus, over bool, now time.Time) corev1.PodStatus {
	s := *present
	s.ObservedGeneration = p.Object.Generation
	s.Phase = p.phase(over)
	if e := p.Ending; e != nil && e.Failed && s.Phase == corev1.PodFailed && present.Phase != corev1.PodFailed {
		s.Reason, s.Message = e.Reason, e.Message
	}
	if s.QOSClass == "" {
		s.QOSClass = podspec.QOSClass(p.Object)
	}
	if s.StartTime == nil {
		s.StartTime = ptr.To(Seconds(p.StartTime))
	}
	if p.Ending != nil && p.Ending.Refused && over {
		return s
	}
	setAddresses(&s, at)
	s.InitContainerStatuses = p.containerStatuses(p.inits())
	s.ContainerStatuses = byName(p.containerStatuses(p.mains()))
	s.EphemeralContainerStatuses = byName(p.containerStatuses(p.ephemerals()))
	if over {
		p.terminate(&s)
	}
	s.Conditions = p.conditions(&s, present.Conditions, over, now)
	return s
}

// byName sorts statuses, which are in no order that means anything.
func byName(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	if len(list) > 1 {
		slices.SortFunc(list, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	}
	return list
}

// setAddresses says where the pod is. What was said once stays, but for the address of a pod
// that has lost its network and got another.
func setAddresses(s *corev1.PodStatus, at network.Addresses) {
	if s.HostIP == "" && len(at.Node) > 0 {
		s.HostIP, s.HostIPs = at.NodeIP(), make([]corev1.HostIP, len(at.Node))
		for i, ip := range at.Node {
			s.HostIPs[i].IP = ip
		}
	}
	if len(at.Pod) == 0 || s.PodIP != "" && (!at.Own || s.PodIP == at.PodIP()) {
		return
	}
	s.PodIP, s.PodIPs = at.PodIP(), make([]corev1.PodIP, len(at.Pod))
	for i, ip := range at.Pod {
		s.PodIPs[i].IP = ip
	}
}

func (p *Pod) containerStatuses(list []Container) []corev1.ContainerStatus {
	if len(list) == 0 {
		return nil
	}
	out := make([]corev1.ContainerStatus, len(list))
	for i := range list {
		p.containerStatus(&list[i], &out[i])
	}
	return out
}

func (p *Pod) containerStatus(c *Container, s *corev1.ContainerStatus) {
	s.Name = c.Spec.Name
	s.Image, s.ImageID = c.Image, c.ImageID
	if s.Image == "" {
		s.Image = c.Spec.Image
	}
	s.ContainerID = ContainerID(c.ID)
	s.RestartCount = int32(max(c.Attempt, 0))
	s.Resources, s.AllocatedResources = c.actual(), c.granted().Requests
	s.User = c.User
	if l := c.Spec.Lifecycle; l != nil {
		s.StopSignal = l.StopSignal
	}
	s.VolumeMounts = mountStatuses(c.Spec.VolumeMounts)
	s.State, s.LastTerminationState = p.containerState(c)

	started := c.shown() && c.Started
	if c.Kind == Ephemeral { // it has no probes, and is never said to have started or to be ready
		return
	}
	s.Started = &started
	switch {
	case c.Kind == Init:
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
	default:
		s.Ready = started && c.Ready
	}
}

func (p *Pod) containerState(c *Container) (state, last corev1.ContainerState) {
	last.Terminated = c.Last
	switch {
	case c.shown():
		state.Running = &corev1.ContainerStateRunning{StartedAt: Seconds(c.StartedAt)}
	case c.Exit != nil && !c.HasProcess() && (c.Reason == "" || p.Ending != nil || c.Phase == Exited && !p.Restarts(c)):
		state.Terminated = c.Exit
	default:
		state.Waiting = &corev1.ContainerStateWaiting{Reason: c.Reason, Message: c.Message}
		if c.Reason == "" {
			state.Waiting.Reason = "ContainerCreating"
			if p.Inits > 0 {
				state.Waiting.Reason = "PodInitializing"
			}
		}
		if c.Exit != nil && !c.HasProcess() {
			last.Terminated = c.Exit
		}
	}
	return state, last
}

// IDScheme is what the API's container ids begin with.
const IDScheme = "sampan://"

// ContainerID returns how the API names the container that the runner knows
// by id.
func ContainerID(id string) string {
	if id == "" {
		return ""
	}
	return IDScheme + id
}

func mountStatuses(mounts []corev1.VolumeMount) []corev1.VolumeMountStatus {
	if len(mounts) == 0 {
		return nil
	}
	out := make([]corev1.VolumeMountStatus, len(mounts))
	for i, m := range mounts {
		out[i] = corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			out[i].RecursiveReadOnly = ptr.To(corev1.RecursiveReadOnlyDisabled)
			if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled {
				out[i].RecursiveReadOnly = ptr.To(corev1.RecursiveReadOnlyEnabled)
			}
		}
	}
	return out
}

// terminate makes every container that may have been started look ended, now
// that the pod is over.
func (p *Pod) terminate(s *corev1.PodStatus) {
	if p.initialized(s) {
		for i := range s.ContainerStatuses {
			lost(&s.ContainerStatuses[i].State)
		}
	}
	tried := 0
	for i := range s.InitContainerStatuses {
		if c := &s.InitContainerStatuses[i]; i == 0 || c.State.Waiting == nil || c.LastTerminationState.Terminated != nil {
			tried = i + 1
		}
	}
	for i := range tried {
		lost(&s.InitContainerStatuses[i].State)
	}
}

func lost(state *corev1.ContainerState) {
	if state.Terminated != nil {
		return
	}
	*state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason:   "ContainerStatusUnknown",
		Message:  "The container could not be located when the pod was terminated",
		ExitCode: 137,
	}}
}

// initialized reports whether any main container may have been started.
func (p *Pod) initialized(s *corev1.PodStatus) bool {
	if p.Inits == 0 || p.mainCreated() {
		return true
	}
	last := &p.Containers[p.Inits-1]
	if last.Kind == Sidecar {
		return last.HasProcess() && last.Started
	}
	return last.Exit != nil && last.Exit.ExitCode == 0
}

// Seconds returns t in the precision of the API.
func Seconds(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }
