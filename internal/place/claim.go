package place

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/claim"
)

// unclaimed returns why no node at all can have the pod because of what it claims, in
// kube-scheduler's words; "" if that is nothing. There are no devices here that could be claimed.
// What it claims of volumes is said by the second result; nil: nothing.
func unclaimed(pod *corev1.Pod, ledger *claim.Ledger) (why string, claims *claim.Pod) {
	for i := range pod.Spec.ResourceClaims {
		if why := noDevice(pod, &pod.Spec.ResourceClaims[i]); why != "" {
			return why, nil
		}
	}
	if !claim.Any(pod) {
		return "", nil
	}
	if ledger == nil { // nobody has said what there is
		ledger = claim.New(time.Time{}, claim.State{})
	}
	claims, err := ledger.Pod(pod)
	if err != nil {
		return err.Error(), nil
	}
	return "", claims
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
