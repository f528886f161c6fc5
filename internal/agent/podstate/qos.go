package podstate

import corev1 "k8s.io/api/core/v1"

// qosClass returns the pod's quality of service class: Guaranteed when every
// container limits cpu and memory and requests just as much, BestEffort when
// none says anything about them, else Burstable.
func qosClass(spec *corev1.PodSpec) corev1.PodQOSClass {
	any, all := false, true
	check := func(r *corev1.ResourceRequirements) {
		for _, name := range [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := r.Requests[name], r.Limits[name]
			if !request.IsZero() || !limit.IsZero() {
				any = true
			}
			if _, ok := r.Requests[name]; !ok {
				request = limit
			}
			if limit.IsZero() || request.Cmp(limit) != 0 {
				all = false
			}
		}
	}
	if spec.Resources != nil {
		check(spec.Resources)
	} else {
		for i := range spec.InitContainers {
			check(&spec.InitContainers[i].Resources)
		}
		for i := range spec.Containers {
			check(&spec.Containers[i].Resources)
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case all:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
