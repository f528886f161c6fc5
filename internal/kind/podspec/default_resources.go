package podspec

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// defaultPodResources completes the resources of the pod as a whole from those
// of its containers, when the pod sets some itself: limits on huge pages first,
// then requests, then the limits of what is requested, if every container has one.
func defaultPodResources(pod *corev1.Pod) {
	r := pod.Spec.Resources
	if r == nil || len(r.Limits)+len(r.Requests) == 0 {
		return
	}
	whatever := func(corev1.ResourceName) bool { return true }
	limits := resource.AggregateContainerLimits(pod, resource.PodResourcesOptions{})
	r.Limits = withMissing(r.Limits, limits, func(name corev1.ResourceName) bool {
		_, requested := r.Requests[name]
		return isHugePages(name) && !requested
	})
	requests := resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{})
	r.Requests = withMissing(r.Requests, requests, allowsOvercommit)
	r.Requests = withMissing(r.Requests, r.Limits, whatever)
	enough := corev1.ResourceList{}
	for name, request := range r.Requests {
		limit, limited := limits[name]
		if !limited || !allLimited(&pod.Spec, name) {
			continue
		}
		if limit.Cmp(request) < 0 { // a limit below the pod's own request would be refused
			limit = request
		}
		enough[name] = limit
	}
	r.Limits = withMissing(r.Limits, enough, whatever)
}

// allLimited reports whether every container limits name.
func allLimited(spec *corev1.PodSpec, name corev1.ResourceName) bool {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if _, ok := list[i].Resources.Limits[name]; !ok {
				return false
			}
		}
	}
	return true
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
