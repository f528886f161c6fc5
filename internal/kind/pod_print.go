package kind

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// nodeUnreachable is a pod's reason when its node has not been heard of.
const nodeUnreachable = "NodeLost"

func podCells(pod *corev1.Pod, now time.Time) []any {
	s := summarize(pod)
	restarts := strconv.Itoa(s.restarts)
	if s.restarts != 0 && !s.restarted.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts, age(s.restarted, now))
	}
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return []any{
		pod.Name,
		fmt.Sprintf("%d/%d", s.ready, s.containers),
		s.status,
		restarts,
		age(pod.CreationTimestamp, now),
		orElse(ip, "<none>"),
		orElse(pod.Spec.NodeName, "<none>"),
		orElse(pod.Status.NominatedNodeName, "<none>"),
		readinessGates(pod),
	}
}

// summary is what a table shows of all the containers of a pod.
type summary struct {
	status     string
	ready      int
	containers int // that run beside each other
	restarts   int
	restarted  metav1.Time // last
}

func summarize(pod *corev1.Pod) summary {
	s := summary{status: string(pod.Status.Phase), containers: len(pod.Spec.Containers)}
	if pod.Status.Reason != "" {
		s.status = pod.Status.Reason
	}
	if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated
	}) {
		s.status = corev1.PodReasonSchedulingGated
	}
	sidecars := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		if podspec.IsSidecar(&c) {
			sidecars[c.Name] = true
			s.containers++
		}
	}
	seen, initialized := s.initContainers(pod, sidecars)
	if initialized || hasCondition(pod, corev1.PodInitialized) {
		s.appContainers(pod, sidecars, seen)
	}
	if pod.DeletionTimestamp != nil && pod.Status.Reason == nodeUnreachable {
		s.status = "Unknown"
	} else if pod.DeletionTimestamp != nil && !PodEnded(pod) {
		s.status = "Terminating"
	}
	return s
}

// initContainers tells how far initialization has come. It returns how many
// init containers had their turn and whether it is over: every one of them has
// succeeded, or runs on as a sidecar.
func (s *summary) initContainers(pod *corev1.Pod, sidecars map[string]bool) (seen int, over bool) {
	for i, c := range pod.Status.InitContainerStatuses {
		s.count(c)
		switch state := c.State; {
		case state.Terminated != nil && state.Terminated.ExitCode == 0:
			continue
		case sidecars[c.Name] && ptr.Deref(c.Started, false):
			if c.Ready {
				s.ready++
			}
			continue
		case state.Terminated != nil:
			s.status = "Init:" + endReason(state.Terminated)
		case state.Waiting != nil && state.Waiting.Reason != "" && state.Waiting.Reason != "PodInitializing":
			s.status = "Init:" + state.Waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return i + 1, false
	}
	return len(pod.Status.InitContainerStatuses), true
}

// appContainers tells how the app containers are; of the restarts before, only
// those of the sidecars seen still count. The first container has the last word.
func (s *summary) appContainers(pod *corev1.Pod, sidecars map[string]bool, seen int) {
	s.restarts, s.restarted = 0, metav1.Time{}
	for _, c := range pod.Status.InitContainerStatuses[:seen] {
		if sidecars[c.Name] {
			s.count(c)
		}
	}
	running := false
	for _, c := range slices.Backward(pod.Status.ContainerStatuses) {
		s.count(c)
		switch state := c.State; {
		case state.Waiting != nil && state.Waiting.Reason != "":
			s.status = state.Waiting.Reason
		case state.Terminated != nil:
			s.status = endReason(state.Terminated)
		case c.Ready && state.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.status == "Completed" && running {
		s.status = "NotReady"
		if hasCondition(pod, corev1.PodReady) {
			s.status = "Running"
		}
	}
}

// count adds the restarts of a container.
func (s *summary) count(c corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.restarted.Before(&t.FinishedAt) {
		s.restarted = t.FinishedAt
	}
}

// endReason says how a container ended.
func endReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func hasCondition(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

// readinessGates counts the gates whose (first) condition is true.
func readinessGates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	open := 0
	for _, gate := range pod.Spec.ReadinessGates {
		i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == gate.ConditionType })
		if i >= 0 && pod.Status.Conditions[i].Status == corev1.ConditionTrue {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(pod.Spec.ReadinessGates))
}
