package control

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// podsOf returns the pods of owner that are still of interest to it, and those of
// its namespace that have no controller.
func podsOf(view change.View, owner change.Object) []*corev1.Pod {
	var found []*corev1.Pod
	for obj := range view.Index(kind.Pods, kind.LivePods(owner.GetUID())) {
		found = append(found, obj.(*corev1.Pod))
	}
	for obj := range view.Index(kind.Pods, kind.StrayPods(owner.GetNamespace())) {
		found = append(found, obj.(*corev1.Pod))
	}
	return found
}

// podOwners adds the objects of kind k that the write of a pod, or of a ReplicaSet, concerns:
// its controller, the one that it had before, and, when it has none, those whose selector
// matches it.
func podOwners(view change.View, k *kind.Kind, selectorOf func(change.Object) *metav1.LabelSelector, ev change.Event, add func(change.Key)) {
	controllersOf(k, ev, add)
	pod := ev.Object
	if metav1.GetControllerOfNoCopy(pod) != nil || len(pod.GetLabels()) == 0 {
		return
	}
	have := labels.Set(pod.GetLabels())
	for obj := range view.List(k.Resource, ev.Key.Namespace) {
		s := selectorOf(obj)
		// Nearly every Job asks for a uid that the pod does not have: that is
		// found out without parsing each selector.
		if s == nil || !labels.SelectorFromValidatedSet(s.MatchLabels).Matches(have) {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err == nil && !selector.Empty() && selector.Matches(have) {
			add(k.KeyOf(obj))
		}
	}
}
