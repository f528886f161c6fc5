package podstate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// owned are the conditions that the node writes, in their order.
var owned = [...]corev1.PodConditionType{
	corev1.PodReadyToStartContainers,
	corev1.PodInitialized,
	corev1.PodReady,
	corev1.ContainersReady,
	corev1.PodScheduled,
}

// conditions returns the pod's conditions: those of others as they are, then
// the node's own.
func (p *Pod) conditions(s *corev1.PodStatus, present []corev1.PodCondition, over bool, now time.Time) []corev1.PodCondition {
	out := make([]corev1.PodCondition, 0, len(owned)+len(present))
	for _, c := range present {
		if !slices.Contains(owned[:], c.Type) && c.Type != corev1.PodResizePending && c.Type != corev1.PodResizeInProgress {
			out = append(out, c)
		}
	}
	if !over {
		out = p.Resize.conditions(out, present, now)
	}
	if e := p.Ending; e != nil && e.Disrupted && over && s.Phase == corev1.PodFailed {
		out = p.disrupt(out, now)
	}
	containers := p.containersReady(s)
	for _, c := range [...]corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: status(p.Ready && !over)},
		p.initializedCondition(s),
		p.readyCondition(containers, present),
		containers,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	} {
		c.ObservedGeneration = p.Object.Generation
		c.LastTransitionTime = Seconds(now)
		for i := range present {
			if old := &present[i]; old.Type == c.Type && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
		out = append(out, c)
	}
	return out
}

// disrupt adds the condition of a pod that its node has ended for its own sake.
// It comes with the last status only: a Job counts the pod when all is over.
func (p *Pod) disrupt(list []corev1.PodCondition, now time.Time) []corev1.PodCondition {
	c := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: p.Object.Generation,
		Reason: corev1.PodReasonTerminationByKubelet, Message: p.Ending.Message, LastTransitionTime: Seconds(now),
	}
	i := slices.IndexFunc(list, func(old corev1.PodCondition) bool { return old.Type == c.Type })
	if i < 0 {
		return append(list, c)
	}
	if list[i].Status == c.Status {
		c.LastTransitionTime = list[i].LastTransitionTime
	}
	list[i] = c
	return list
}

func status(yes bool) corev1.ConditionStatus {
	if yes {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func (p *Pod) containersReady(s *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady}
	switch s.Phase {
	case corev1.PodSucceeded:
		c.Status, c.Reason = corev1.ConditionFalse, "PodCompleted"
		return c
	case corev1.PodFailed:
		c.Status, c.Reason = corev1.ConditionFalse, "PodFailed"
		return c
	}
	var unready []string
	for i := range p.Containers {
		k := &p.Containers[i]
		if k.Kind != Init && k.Kind != Ephemeral && !(k.shown() && k.Started && k.Ready) {
			unready = append(unready, k.Spec.Name)
		}
	}
	if len(unready) == 0 {
		c.Status = corev1.ConditionTrue
		return c
	}
	c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotReady"
	c.Message = fmt.Sprintf("containers with unready status: %s", unready)
	return c
}

func (p *Pod) initializedCondition(s *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if s.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	if p.mainCreated() {
		return c
	}
	var incomplete []string
	for i := range p.inits() {
		k := &p.Containers[i]
		done := k.Exit != nil && k.Exit.ExitCode == 0 && !k.HasProcess()
		if k.Kind == Sidecar {
			done = k.shown() && k.Started
		}
		if !done {
			incomplete = append(incomplete, k.Spec.Name)
		}
	}
	if len(incomplete) > 0 {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	return c
}

func (p *Pod) readyCondition(containers corev1.PodCondition, present []corev1.PodCondition) corev1.PodCondition {
	c := containers
	c.Type = corev1.PodReady
	if c.Status != corev1.ConditionTrue {
		return c
	}
	var unmet []string
	for _, gate := range p.Object.Spec.ReadinessGates {
		i := slices.IndexFunc(present, func(c corev1.PodCondition) bool { return c.Type == gate.ConditionType })
		switch {
		case i < 0:
			unmet = append(unmet, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(gate.ConditionType)))
		case present[i].Status != corev1.ConditionTrue:
			unmet = append(unmet, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(gate.ConditionType), present[i].Status))
		}
	}
	if len(unmet) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(unmet, ", ")
	}
	return c
}
