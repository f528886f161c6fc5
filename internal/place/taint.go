package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// pressureTaint returns the taint that goes with a condition of a node, "" if none
// does.
func pressureTaint(condition corev1.NodeConditionType) string {
	switch condition {
	case corev1.NodeMemoryPressure:
		return corev1.TaintNodeMemoryPressure
	case corev1.NodeDiskPressure:
		return corev1.TaintNodeDiskPressure
	case corev1.NodePIDPressure:
		return corev1.TaintNodePIDPressure
	}
	return ""
}

// Taints returns the taints that node should have, given its conditions, and
// whether they are others than it has: a node that has too little of something is
// given no pods. It is that part of Kubernetes' node lifecycle controller; taints
// of others stay.
func Taints(node *corev1.Node) (taints []corev1.Taint, changed bool) {
	taints = slices.Clone(node.Spec.Taints)
	for i := range node.Status.Conditions {
		c := &node.Status.Conditions[i]
		key := pressureTaint(c.Type)
		if key == "" {
			continue
		}
		ours := func(t corev1.Taint) bool { return t.Key == key && t.Effect == corev1.TaintEffectNoSchedule }
		switch has := slices.ContainsFunc(taints, ours); {
		case has && c.Status != corev1.ConditionTrue:
			taints, changed = slices.DeleteFunc(taints, ours), true
		case !has && c.Status == corev1.ConditionTrue:
			taints, changed = append(taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule}), true
		}
	}
	return taints, changed
}
