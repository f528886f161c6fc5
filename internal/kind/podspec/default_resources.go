package podspec

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// defaultPodResources completes the resources of the pod as a whole from those
// of its containers, when the pod sets some itself: limits on huge pages first,
// then requests.
func defaultPodResources(pod *corev1.Pod) {
	r := pod.Spec.Resources
	if r == nil {
		return
	}
	if len(r.Limits) > 0 || len(r.Requests) > 0 {
		r.Limits = withMissing(r.Limits, containerLimits(pod), func(name corev1.ResourceName) bool {
			_, requested := r.Requests[name]
			return isHugePages(name) && !requested
		})
	}
	if len(r.Limits) > 0 {
		r.Requests = withMissing(r.Requests, containerRequests(pod), allowsOvercommit)
		r.Requests = withMissing(r.Requests, r.Limits, func(corev1.ResourceName) bool { return true })
	}
}

func containerRequests(pod *corev1.Pod) corev1.ResourceList {
	return resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{})
}

func containerLimits(pod *corev1.Pod) corev1.ResourceList {
	return resource.AggregateContainerLimits(pod, resource.PodResourcesOptions{})
}

// withMissing returns list with those resources of from that it lacks, that a
// pod can have as a whole, and that want accepts.
func withMissing(list, from corev1.ResourceList, want func(corev1.ResourceName) bool) corev1.ResourceList {
	out := maps.Clone(list)
	for name, q := range from {
		if _, ok := out[name]; ok || !resource.IsSupportedPodLevelResource(name) || !want(name) {
			continue
		}
		if out == nil {
			out = corev1.ResourceList{}
		}
		out[name] = q.DeepCopy()
	}
	return out
}
