package podset

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Ready reports whether the pod says that it is ready.
func Ready(pod *corev1.Pod) bool {
	c := kind.PodCondition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available reports whether the pod has been ready for so many seconds, and, if it has
// not yet but is ready, when it will have been.
func Available(pod *corev1.Pod, minReadySeconds int32, now time.Time) (available bool, at time.Time) {
	c := kind.PodCondition(pod, corev1.PodReady)
	switch {
	case c == nil || c.Status != corev1.ConditionTrue:
		return false, time.Time{}
	case minReadySeconds == 0:
		return true, time.Time{}
	case c.LastTransitionTime.IsZero(): // nobody knows since when
		return false, time.Time{}
	}
	at = c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second)
	if at.After(now) {
		return false, at
	}
	return true, time.Time{}
}
