package kind

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"
)

// UnboundPods is the index term of pods that wait for a node.
const UnboundPods = "unbound"

// NodePods is the index term of the pods that are bound to a node.
func NodePods(node string) string { return "node/" + node }

// ActivePods is the index term of the pods that are bound to a node and have
// not ended.
func ActivePods(node string) string { return "active/" + node }

// AffinePods is the index term of those of them that want to be near other pods, or far from them.
func AffinePods(node string) string { return "affine/" + node }

// LivePods is the index term of the pods that a controller has not finished
// with: they have not ended, a finalizer holds them, or they lack the label that
// its selector asks for, so that it may have to let them go.
func LivePods(controller types.UID) string { return "live/" + string(controller) }

// StrayPods is the index term of a namespace's pods that have no controller.
func StrayPods(namespace string) string { return "stray/" + namespace }

// Own is the index term of the ControllerRevisions, and of the ReplicaSets, that a
// controller has.
func Own(controller types.UID) string { return "own/" + string(controller) }

// Stray is the index term of those of a namespace that have no controller.
func Stray(namespace string) string { return "stray/" + namespace }

// ClaimPods is the index term of the pods that name a claim, or have it made for a volume.
func ClaimPods(namespace, claim string) string { return "claim/" + namespace + "/" + claim }

// FreeVolumes is the index term of the PersistentVolumes of a class that are for no claim.
func FreeVolumes(class string) string { return "free/" + class }

// ClaimVolumes is the index term of the PersistentVolumes that are for a claim of this name.
func ClaimVolumes(namespace, claim string) string { return "claim/" + namespace + "/" + claim }

// OpenClaims is the index term of the PersistentVolumeClaims of a class that were never bound.
func OpenClaims(class string) string { return "open/" + class }

// VolumeClaims is the index term of the PersistentVolumeClaims that name a volume.
func VolumeClaims(volume string) string { return "volume/" + volume }

func volumeTerms(v *corev1.PersistentVolume) []string {
	if ref := v.Spec.ClaimRef; ref != nil {
		return []string{ClaimVolumes(ref.Namespace, ref.Name)}
	}
	return []string{FreeVolumes(volume.GetPersistentVolumeClass(v))}
}

func claimTerms(c *corev1.PersistentVolumeClaim) (terms []string) {
	if !metav1.HasAnnotation(c.ObjectMeta, volume.AnnBindCompleted) {
		terms = append(terms, OpenClaims(volume.GetPersistentVolumeClaimClass(c)))
	}
	if c.Spec.VolumeName != "" {
		terms = append(terms, VolumeClaims(c.Spec.VolumeName))
	}
	return terms
}

// ownTerms returns the index terms of what is found by its controller.
func ownTerms(obj Object) []string {
	if ref := metav1.GetControllerOfNoCopy(obj); ref != nil {
		return []string{Own(ref.UID)}
	}
	return []string{Stray(obj.GetNamespace())}
}

// podTerms returns the index terms of a pod.
func podTerms(pod *corev1.Pod) []string {
	terms := make([]string, 0, 3)
	ended := PodEnded(pod)
	switch {
	case pod.Spec.NodeName != "":
		terms = append(terms, NodePods(pod.Spec.NodeName))
		if !ended {
			terms = append(terms, ActivePods(pod.Spec.NodeName))
			if a := pod.Spec.Affinity; a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil) {
				terms = append(terms, AffinePods(pod.Spec.NodeName))
			}
		}
	case !ended:
		terms = append(terms, UnboundPods)
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref == nil {
		terms = append(terms, StrayPods(pod.Namespace))
	} else if !ended || len(pod.Finalizers) > 0 || pod.Labels[batchv1.ControllerUidLabel] != string(ref.UID) {
		terms = append(terms, LivePods(ref.UID))
	}
	for i := range pod.Spec.Volumes {
		if name := ClaimName(pod, &pod.Spec.Volumes[i]); name != "" {
			terms = append(terms, ClaimPods(pod.Namespace, name))
		}
	}
	return terms
}
