package place

import (
	"fmt"

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
	if taint, found := untolerated(node, pod); found {
		return fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)
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

func untolerated(node *corev1.Node, pod *corev1.Pod) (corev1.Taint, bool) {
	if len(node.Spec.Taints) == 0 {
		return corev1.Taint{}, false
	}
	return schedulinghelper.FindMatchingUntoleratedTaint(klog.Logger{}, node.Spec.Taints, pod.Spec.Tolerations,
		func(t *corev1.Taint) bool {
			return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		}, false)
}
