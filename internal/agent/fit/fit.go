// Package fit says whether a node has a place for a pod that no scheduler has bound to it, whose manifest
// names the node: what a kubelet looks at before it takes a pod, in its words. It is pure.
package fit

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Refusal is why a node has no place for a pod.
type Refusal struct{ Reason, Message string }

// Refuses returns why the node has no place for a pod beside others, which it has taken; nil: it has.
func Refuses(node *corev1.Node, pod *corev1.Pod, others []*corev1.Pod) *Refusal {
	if r := lacks(node.Status.Allocatable, pod, others); r != nil {
		return r
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return failedPredicate(reason.NodeAffinity, "node(s) didn't match Pod's node affinity/selector")
	}
	if ports := podspec.HostPorts(pod); len(ports) > 0 {
		for _, other := range others {
			for _, taken := range podspec.HostPorts(other) {
				if slices.ContainsFunc(ports, taken.Conflicts) {
					return failedPredicate(reason.NodePorts, "node(s) didn't have free ports for the requested pod ports")
				}
			}
		}
	}
	_, untolerated := schedulinghelpers.FindMatchingUntoleratedTaint(klog.Logger{}, node.Spec.Taints, pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute
	}, false)
	if untolerated {
		return failedPredicate(reason.TaintToleration, "node(s) had taints that the pod didn't tolerate")
	}
	return nil
}

func failedPredicate(name, why string) *Refusal {
	return &Refusal{name, fmt.Sprintf("Predicate %s failed: %s", name, why)}
}

// lacks returns what of the node's resources there is too little of.
func lacks(allocatable corev1.ResourceList, pod *corev1.Pod, others []*corev1.Pod) *Refusal {
	short := func(name corev1.ResourceName, want, used, all int64) *Refusal {
		return &Refusal{
			reason.OutOf + string(name),
			fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, want, used, all),
		}
	}
	if n, most := int64(len(others)), allocatable.Pods().Value(); n+1 > most {
		return short(corev1.ResourcePods, 1, n, most)
	}
	wanted := resource.PodRequests(pod, resource.PodResourcesOptions{})
	used := corev1.ResourceList{}
	for _, other := range others {
		for name, q := range resource.PodRequests(other, resource.PodResourcesOptions{UseStatusResources: true}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		want, all, now := wanted[name], allocatable[name], used[name]
		if want.IsZero() {
			continue
		}
		left := all.DeepCopy()
		left.Sub(now)
		if want.Cmp(left) <= 0 {
			continue
		}
		if name == corev1.ResourceCPU {
			return short(name, want.MilliValue(), now.MilliValue(), all.MilliValue())
		}
		return short(name, want.Value(), now.Value(), all.Value())
	}
	return nil
}
