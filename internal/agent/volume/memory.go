package volume

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// memorySize bounds a volume in memory, as a kubelet does: by the least of its
// own limit, the memory that the pod may have, and what the node has for pods.
// 0 is no bound, on a node that does not say.
func (p *Pod) memorySize(src *corev1.EmptyDirVolumeSource) int64 {
	size := p.Allocatable.Memory().Value()
	bound := func(limit int64) {
		if limit > 0 && (size == 0 || limit < size) {
			size = limit
		}
	}
	bound(memoryLimit(p.Object))
	if src.SizeLimit != nil {
		bound(src.SizeLimit.Value())
	}
	return size
}

// memoryLimit is how much memory the pod may have: 0, for any, when a container
// or init container says nothing, unless the pod as a whole has a limit.
func memoryLimit(pod *corev1.Pod) int64 {
	declared := true
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			declared = declared && !list[i].Resources.Limits.Memory().IsZero()
		}
	}
	if r := pod.Spec.Resources; r != nil && !r.Limits.Memory().IsZero() {
		declared = true
	}
	if !declared {
		return 0
	}
	limits := resource.PodLimits(pod, resource.PodResourcesOptions{})
	return limits.Memory().Value()
}
