package kind

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// UnboundPods is the index term of pods that wait for a node.
const UnboundPods = "unbound"

// NodePods is the index term of the pods that are bound to a node.
func NodePods(node string) string { return "node/" + node }

// ActivePods is the index term of the pods that are bound to a node and have
// not ended.
func ActivePods(node string) string { return "active/" + node }

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
		}
	case !ended:
		terms = append(terms, UnboundPods)
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref == nil {
		terms = append(terms, StrayPods(pod.Namespace))
	} else if !ended || len(pod.Finalizers) > 0 || pod.Labels[batchv1.ControllerUidLabel] != string(ref.UID) {
		terms = append(terms, LivePods(ref.UID))
	}
	return terms
}
