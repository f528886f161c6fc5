package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// mismatch returns why pod may not run on node whatever is free there, "" when
// it may. The order is kube-scheduler's: the first plugin that refuses speaks.
func mismatch(node *corev1.Node, pod *corev1.Pod) string {
	if node.Spec.Unschedulable && !toleratesUnschedulable(pod) {
		return "node(s) were unschedulable"
	}
	if untolerated(node, pod) {
		return "node(s) had untolerated taint(s)"
	}
	if pod.Spec.NodeSelector == nil && pod.Spec.Affinity == nil {
		return ""
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return "node(s) didn't match Pod's node affinity/selector"
	}
	return ""
}

func toleratesUnschedulable(pod *corev1.Pod) bool {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	return schedulinghelper.TolerationsTolerateTaint(klog.Logger{}, pod.Spec.Tolerations, &taint, false)
}

// untolerated reports whether the node has a taint that pod does not tolerate. A node that is not
// ready has a taint for it, also before anybody has written that down.
func untolerated(node *corev1.Node, pod *corev1.Pod) bool {
	taints := node.Spec.Taints
	for i := range node.Status.Conditions {
		key := corev1.TaintNodeNotReady
		switch c := &node.Status.Conditions[i]; {
		case c.Type != corev1.NodeReady || c.Status == corev1.ConditionTrue:
			continue
		case c.Status == corev1.ConditionUnknown:
			key = corev1.TaintNodeUnreachable
		}
		if !slices.ContainsFunc(taints, func(t corev1.Taint) bool { return t.Key == key && t.Effect == corev1.TaintEffectNoSchedule }) {
			taints = append(slices.Clone(taints), corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	if len(taints) == 0 {
		return false
	}
	_, found := schedulinghelper.FindMatchingUntoleratedTaint(klog.Logger{}, taints, pod.Spec.Tolerations,
		func(t *corev1.Taint) bool {
			return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		}, false)
	return found
}
