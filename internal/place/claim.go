package place

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
)

// unclaimed returns what the pod claims that no node has, in kube-scheduler's words; "" if that
// is nothing. There are no devices here that could be claimed, and no volumes but those of pods:
// whoever claims something waits until there are.
func unclaimed(pod *corev1.Pod) string {
	for i := range pod.Spec.ResourceClaims {
		if why := noDevice(pod, &pod.Spec.ResourceClaims[i]); why != "" {
			return why
		}
	}
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			return fmt.Sprintf("persistentvolumeclaim %q not found", v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			return fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", ephemeral.VolumeClaimName(pod, v))
		}
	}
	return ""
}

// noDevice says which ResourceClaim is not there.
func noDevice(pod *corev1.Pod, claim *corev1.PodResourceClaim) string {
	name := claim.ResourceClaimName
	if name == nil {
		made := false
		for _, s := range pod.Status.ResourceClaimStatuses {
			if s.Name == claim.Name {
				name, made = s.ResourceClaimName, true
			}
		}
		switch {
		case !made:
			return fmt.Sprintf(`pod "%s/%s": ResourceClaim not created yet`, pod.Namespace, pod.Name)
		case name == nil: // none was needed
			return ""
		}
	}
	return fmt.Sprintf("resourceclaim.resource.k8s.io %q not found", *name)
}

// nowhere words why no node at all can have a pod, as kube-scheduler does.
func nowhere(nodes int, why string) string {
	return fmt.Sprintf("0/%d nodes are available: %s. preemption: 0/%d nodes are available: %d Preemption is not helpful for scheduling.", nodes, why, nodes, nodes)
}
