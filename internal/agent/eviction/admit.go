package eviction

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// Refuses says why a node that has these conditions takes no such pod, "" if it
// does: want of memory keeps away only those that asked for nothing and do not
// say that they can live with it.
func Refuses(conditions []corev1.NodeConditionType, pod *corev1.Pod) string {
	if len(conditions) == 0 || Critical(pod) {
		return ""
	}
	if len(conditions) == 1 && conditions[0] == corev1.NodeMemoryPressure {
		taint := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		if podspec.QOSClass(pod) != corev1.PodQOSBestEffort ||
			schedulinghelper.TolerationsTolerateTaint(klog.Logger{}, pod.Spec.Tolerations, &taint, false) {
			return ""
		}
	}
	return fmt.Sprintf("The node had condition: %v. ", conditions)
}
