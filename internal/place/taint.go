package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// taintOf returns the taint that goes with a condition of a node, "" if none does,
// and whether the condition is such that the node has it.
func taintOf(c *corev1.NodeCondition) (key string, has bool) {
	switch c.Type {
	case corev1.NodeReady:
		return corev1.TaintNodeNotReady, c.Status == corev1.ConditionFalse
	case corev1.NodeMemoryPressure:
		key = corev1.TaintNodeMemoryPressure
	case corev1.NodeDiskPressure:
		key = corev1.TaintNodeDiskPressure
	case corev1.NodePIDPressure:
		key = corev1.TaintNodePIDPressure
	}
	return key, c.Status == corev1.ConditionTrue
}

// Taints returns the taints that node should have, given its conditions, and
// whether they are others than it has: a node that has too little of something, or
// cannot start containers, is given no pods. It is that part of Kubernetes' node
// lifecycle controller; taints of others stay.
func Taints(node *corev1.Node) (taints []corev1.Taint, changed bool) {
	taints = slices.Clone(node.Spec.Taints)
	for i := range node.Status.Conditions {
		key, should := taintOf(&node.Status.Conditions[i])
		if key == "" {
			continue
		}
		ours := func(t corev1.Taint) bool { return t.Key == key && t.Effect == corev1.TaintEffectNoSchedule }
		switch has := slices.ContainsFunc(taints, ours); {
		case has && !should:
			taints, changed = slices.DeleteFunc(taints, ours), true
		case !has && should:
			taints, changed = append(taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule}), true
		}
	}
	return taints, changed
}
