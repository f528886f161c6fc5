package node

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// state is how the node fares.
type state struct {
	// pressures are the conditions that the node has of what runs out.
	pressures []corev1.NodeConditionType
	health
}

// health is what was found out about runtimes and disk.
type health struct {
	// runtimes is why containers cannot be started, "" if they can.
	runtimes string
	// unwritable says that the disk takes nothing.
	unwritable bool
}

// equal reports whether two states show the same conditions.
func (s state) equal(o state) bool {
	return s.runtimes == o.runtimes && slices.Equal(s.conditions(), o.conditions())
}

// conditions returns the pressures with what the disk's health adds. A disk that
// takes nothing is under pressure, whatever it says of its room.
func (s state) conditions() []corev1.NodeConditionType {
	if s.unwritable && !slices.Contains(s.pressures, corev1.NodeDiskPressure) {
		return append(slices.Clone(s.pressures), corev1.NodeDiskPressure)
	}
	return s.pressures
}

// conditions returns the conditions that the node writes itself, given what is
// so, and those of others as they are.
func conditions(present []corev1.NodeCondition, is state, now time.Time) []corev1.NodeCondition {
	pressures, at := is.conditions(), metav1.NewTime(now.Truncate(time.Second))
	own := []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, pressures),
		pressure(corev1.NodeDiskPressure, pressures),
		pressure(corev1.NodePIDPressure, pressures),
		readiness(is.runtimes),
	}
	var out []corev1.NodeCondition
	for _, old := range present {
		mine := false
		for i := range own {
			if own[i].Type == old.Type {
				mine = true
				if own[i].Status == old.Status {
					own[i].LastTransitionTime = old.LastTransitionTime
				}
			}
		}
		if !mine {
			out = append(out, old)
		}
	}
	for i := range own {
		own[i].LastHeartbeatTime = at
		if own[i].LastTransitionTime.IsZero() {
			own[i].LastTransitionTime = at
		}
	}
	return append(out, own...)
}

// readiness returns the condition Ready in a kubelet's words.
func readiness(unready string) corev1.NodeCondition {
	if unready != "" {
		return corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "container runtime is down: " + unready,
		}
	}
	return corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status",
	}
}

// pressure returns a condition in a kubelet's words.
func pressure(t corev1.NodeConditionType, present []corev1.NodeConditionType) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse}
	has := slices.Contains(present, t)
	if has {
		c.Status = corev1.ConditionTrue
	}
	switch {
	case t == corev1.NodeDiskPressure && has:
		c.Reason, c.Message = "KubeletHasDiskPressure", "kubelet has disk pressure"
	case t == corev1.NodeDiskPressure:
		c.Reason, c.Message = "KubeletHasNoDiskPressure", "kubelet has no disk pressure"
	case t == corev1.NodeMemoryPressure && has:
		c.Reason, c.Message = "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"
	case t == corev1.NodeMemoryPressure:
		c.Reason, c.Message = "KubeletHasSufficientMemory", "kubelet has sufficient memory available"
	case has:
		c.Reason, c.Message = "KubeletHasInsufficientPID", "kubelet has insufficient PID available"
	default:
		c.Reason, c.Message = "KubeletHasSufficientPID", "kubelet has sufficient PID available"
	}
	return c
}
