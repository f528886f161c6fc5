package statefulset

import (
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/reason"
)

// claimWrite is a claim as it is to be. read is nil if it is new.
type claimWrite struct{ read, next *corev1.PersistentVolumeClaim }

// claimName is what the claim of an ordinal is called.
func claimName(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) string {
	return template.Name + "-" + nameOf(set, ordinal)
}

// volumesOf returns the volumes of the pod of an ordinal: its claims, and those of the
// template that have no name of a claim.
func volumesOf(set *appsv1.StatefulSet, own []corev1.Volume, ordinal int) []corev1.Volume {
	var volumes []corev1.Volume
	claims := map[string]bool{}
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		claims[template.Name] = true
		volumes = append(volumes, corev1.Volume{Name: template.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, template, ordinal)},
		}})
	}
	return append(volumes, slices.DeleteFunc(slices.Clone(own), func(v corev1.Volume) bool { return claims[v.Name] })...)
}

// makeClaims creates the claims of a pod that are not there. The error says that one is
// there, and about to go.
func (d *decision) makeClaims(m *member) error {
	var missing []claimWrite
	for i := range d.Set.Spec.VolumeClaimTemplates {
		template := &d.Set.Spec.VolumeClaimTemplates[i]
		name := claimName(d.Set, template, m.ordinal)
		switch there := d.Claim(name); {
		case there == nil:
			missing = append(missing, claimWrite{nil, d.newClaim(template, name)})
		case there.DeletionTimestamp != nil:
			return fmt.Errorf("pvc %s is being deleted", name)
		}
	}
	for _, w := range missing {
		d.claims = append(d.claims, w)
		d.notes = append(d.notes, note{corev1.EventTypeNormal, reason.SuccessfulCreate,
			fmt.Sprintf("Create Claim %s Pod %s in StatefulSet %s success", w.next.Name, m.pod.Name, d.Set.Name)})
	}
	return nil
}

func (d *decision) newClaim(template *corev1.PersistentVolumeClaim, name string) *corev1.PersistentVolumeClaim {
	claim := template.DeepCopy()
	claim.Name, claim.Namespace = name, d.Set.Namespace
	claim.Status = corev1.PersistentVolumeClaimStatus{}
	if claim.Labels == nil {
		claim.Labels = make(map[string]string)
	}
	maps.Copy(claim.Labels, d.Set.Spec.Selector.MatchLabels)
	if retention(d.Set).WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		claim.OwnerReferences = d.owner.With(claim)
	}
	return claim
}

func retention(set *appsv1.StatefulSet) appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy {
	if p := set.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		return *p
	}
	return appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
	}
}

// claimIsLeft reports whether a claim of the ordinal is about to go with another pod: the
// set was scaled down, and up again.
func (d *decision) claimIsLeft(m *member) bool {
	if retention(d.Set).WhenScaled != appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		return false
	}
	for i := range d.Set.Spec.VolumeClaimTemplates {
		claim := d.Claim(claimName(d.Set, &d.Set.Spec.VolumeClaimTemplates[i], m.ordinal))
		if claim != nil && isStale(claim.OwnerReferences, podRef(m.pod)) {
			return true
		}
	}
	return false
}

// claimsFollow lets the claims of a pod that is there go with the set, or with the pod, as
// the retention policy says. It reports whether any changes.
func (d *decision) claimsFollow(m *member) (moved bool) {
	for i := range d.Set.Spec.VolumeClaimTemplates {
		claim := d.Claim(claimName(d.Set, &d.Set.Spec.VolumeClaimTemplates[i], m.ordinal))
		if claim == nil {
			continue
		}
		owners, conflict := d.ownersOf(claim, m)
		if conflict {
			d.notes = append(d.notes, note{corev1.EventTypeWarning, reason.ConflictingController, fmt.Sprintf(
				"PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim", claim.Name)})
		}
		if equality.Semantic.DeepEqual(owners, claim.OwnerReferences) {
			continue
		}
		next := *claim
		next.OwnerReferences = owners
		d.claims = append(d.claims, claimWrite{claim, &next})
		moved = true
	}
	return moved
}

// ownersOf are the owners that a claim is to have. One that an earlier set or pod of the
// name owns is left to whoever cleans up after these. conflict says that the set or the
// pod own it together with another controller, and do so no longer.
func (d *decision) ownersOf(claim *corev1.PersistentVolumeClaim, m *member) (owners []metav1.OwnerReference, conflict bool) {
	have := claim.OwnerReferences
	set, pod := d.owner.With(&metav1.ObjectMeta{})[0], podRef(m.pod)
	if isStale(have, set) || isStale(have, pod) {
		return have, false
	}
	ours := func(r metav1.OwnerReference) bool { return r.UID == set.UID || r.UID == pod.UID }
	others := slices.DeleteFunc(slices.Clone(have), ours)
	policy := retention(d.Set)
	remove := appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	if policy.WhenScaled == remove || policy.WhenDeleted == remove {
		if slices.ContainsFunc(others, func(r metav1.OwnerReference) bool { return ptr.Deref(r.Controller, false) }) {
			return others, len(others) < len(have)
		}
	}
	scaled := m.ordinal < first(d.Set) || m.ordinal >= first(d.Set)+count(d.Set)
	var want []metav1.OwnerReference
	switch {
	case policy.WhenScaled == remove && scaled:
		want = append(others, pod)
	case policy.WhenDeleted == remove && !(policy.WhenScaled == remove && scaled):
		want = append(others, set)
	default:
		want = others
	}
	if sameRefs(want, have) {
		return have, false
	}
	return want, false
}

// sameRefs compares owners, whatever their order.
func sameRefs(a, b []metav1.OwnerReference) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(r metav1.OwnerReference) bool {
		return !slices.ContainsFunc(b, func(other metav1.OwnerReference) bool { return equality.Semantic.DeepEqual(r, other) })
	})
}

// isStale reports whether the owners name ref's kind and name with another uid.
func isStale(owners []metav1.OwnerReference, ref metav1.OwnerReference) bool {
	return slices.ContainsFunc(owners, func(r metav1.OwnerReference) bool {
		return r.APIVersion == ref.APIVersion && r.Kind == ref.Kind && r.Name == ref.Name && r.UID != ref.UID
	})
}

func podRef(pod *corev1.Pod) metav1.OwnerReference {
	return *metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))
}
