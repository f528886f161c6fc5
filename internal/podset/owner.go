// Package podset is what controllers have in common whose objects have pods made
// from a template: whose a pod is, what a new one looks like, and which one costs
// least to lose when they are too many.
//
// It is pure, and it decides nothing: how many pods there should be, and what the
// end of one means, is the business of the controller.
package podset

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// Owner is an object as the owner of its pods.
type Owner struct {
	Object   metav1.Object
	Kind     schema.GroupVersionKind
	Selector *metav1.LabelSelector
	Template *corev1.PodTemplateSpec
	// Finalizer is one that each of its pods has until the owner has taken note of
	// how it ended; "" if the owner does not care.
	Finalizer string
}

// Claim is what an owner may make of a pod.
type Claim uint8

const (
	Foreign   Claim = iota // another's, or nobody's that the selector matches
	Mine                   // is the owner's, and matches its selector
	Unmatched              // is the owner's, but matches its selector no longer
	Adoptable              // is nobody's, and matches the selector
)

// Claims returns the function that says what the owner may make of a pod, or of another
// object that owners find by labels. One that is being deleted, as one whose owner is, is
// not adopted any more.
func (o Owner) Claims() func(metav1.Object) Claim {
	matches := matcher(o.Selector)
	uid, leaving := o.Object.GetUID(), o.Object.GetDeletionTimestamp() != nil
	return func(obj metav1.Object) Claim {
		if ref := metav1.GetControllerOfNoCopy(obj); ref != nil {
			switch {
			case ref.UID != uid:
				return Foreign
			case matches(obj.GetLabels()):
				return Mine
			}
			return Unmatched
		}
		if leaving || obj.GetDeletionTimestamp() != nil || !matches(obj.GetLabels()) {
			return Foreign
		}
		return Adoptable
	}
}

// matcher returns the test for labels. No selector, and one that cannot be read,
// matches none.
func matcher(s *metav1.LabelSelector) func(map[string]string) bool {
	none := func(map[string]string) bool { return false }
	if s == nil {
		return none
	}
	if len(s.MatchExpressions) == 0 && len(s.MatchLabels) > 0 { // as nearly all are
		type label struct{ key, value string }
		wanted := make([]label, 0, len(s.MatchLabels)) // a map takes longer to walk, and it is done for every pod
		for k, v := range s.MatchLabels {
			wanted = append(wanted, label{k, v})
		}
		return func(have map[string]string) bool {
			for _, want := range wanted {
				if got, ok := have[want.key]; !ok || got != want.value {
					return false
				}
			}
			return true
		}
	}
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil { // validation lets none pass
		return none
	}
	return func(have map[string]string) bool { return parsed.Matches(labels.Set(have)) }
}

// Adopt returns the pod as the owner's own. Only what differs is copied: the objects
// of a View are never changed.
func (o Owner) Adopt(pod *corev1.Pod) *corev1.Pod {
	next := *pod
	next.OwnerReferences = o.With(pod)
	if !o.Tracks(pod) {
		next.Finalizers = append(slices.Clone(pod.Finalizers), o.Finalizer)
	}
	return &next
}

// Release returns the pod as one that the owner has no claim to any more.
func (o Owner) Release(pod *corev1.Pod) *corev1.Pod {
	next := *pod
	next.OwnerReferences, next.Finalizers = o.Without(pod), o.Untracked(pod)
	return &next
}

// Tracks reports whether the pod has all finalizers that the owner wants it to have.
func (o Owner) Tracks(pod *corev1.Pod) bool {
	return o.Finalizer == "" || slices.Contains(pod.Finalizers, o.Finalizer)
}

// Untracked returns the pod's finalizers without the owner's.
func (o Owner) Untracked(pod *corev1.Pod) []string {
	if o.Finalizer == "" || !o.Tracks(pod) {
		return pod.Finalizers
	}
	return slices.DeleteFunc(slices.Clone(pod.Finalizers), func(f string) bool { return f == o.Finalizer })
}

// With are the object's owners with this one as its controller.
func (o Owner) With(obj metav1.Object) []metav1.OwnerReference {
	return append(o.Without(obj), o.reference())
}

// Without are the object's owners without this one.
func (o Owner) Without(obj metav1.Object) []metav1.OwnerReference {
	uid := o.Object.GetUID()
	return slices.DeleteFunc(slices.Clone(obj.GetOwnerReferences()), func(r metav1.OwnerReference) bool { return r.UID == uid })
}

func (o Owner) reference() metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: o.Kind.GroupVersion().String(), Kind: o.Kind.Kind, Name: o.Object.GetName(), UID: o.Object.GetUID(),
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}
}

// Make returns a new pod of the template, which shares nothing with it. It is as a
// client would write it: its name and what the API gives to every pod are not the
// owner's to give.
func (o Owner) Make() *corev1.Pod {
	t := o.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       o.Object.GetNamespace(),
			GenerateName:    o.Object.GetName() + "-",
			Labels:          maps.Clone(t.Labels),
			Annotations:     maps.Clone(t.Annotations),
			Finalizers:      slices.Clone(t.Finalizers),
			OwnerReferences: []metav1.OwnerReference{o.reference()},
		},
	}
	t.Spec.DeepCopyInto(&pod.Spec)
	if !o.Tracks(pod) {
		pod.Finalizers = append(pod.Finalizers, o.Finalizer)
	}
	return pod
}
