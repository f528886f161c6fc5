package job

import (
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
)

// owner is a Job as the owner of its pods.
type owner struct {
	job     *batchv1.Job
	selects func(map[string]string) bool
}

func ownerOf(job *batchv1.Job) owner { return owner{job, selector(job.Spec.Selector)} }

// claim is what an owner may make of a pod.
type claim uint8

const (
	foreign   claim = iota // another's, or nobody's that the selector matches
	mine                   // has been the owner's, and matches its selector
	unmatched              // has been the owner's, and matches its selector no longer
	adoptable              // nobody's, and matches the selector
)

// claim returns what the owner may make of a pod. One that is being deleted, as one
// whose owner is, is not adopted any more.
func (o owner) claim(pod *corev1.Pod) claim {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		switch {
		case ref.UID != o.job.UID:
			return foreign
		case o.selects(pod.Labels):
			return mine
		}
		return unmatched
	}
	if o.job.DeletionTimestamp != nil || pod.DeletionTimestamp != nil || !o.selects(pod.Labels) {
		return foreign
	}
	return adoptable
}

// selector returns the test for an owner's own pods.
func selector(s *metav1.LabelSelector) func(map[string]string) bool {
	if s == nil {
		return func(map[string]string) bool { return false }
	}
	if len(s.MatchExpressions) == 0 && len(s.MatchLabels) > 0 {
		return func(have map[string]string) bool {
			for k, v := range s.MatchLabels {
				if got, ok := have[k]; !ok || got != v {
					return false
				}
			}
			return true
		}
	}
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil { // validation lets none pass
		return func(map[string]string) bool { return false }
	}
	return func(have map[string]string) bool { return parsed.Matches(labels.Set(have)) }
}

// adopt returns the pod as the owner's own. Only what differs is copied: the objects
// of a View are never changed.
func (o owner) adopt(pod *corev1.Pod) *corev1.Pod {
	next := *pod
	next.OwnerReferences = append(o.otherOwners(pod), controllerRef(o.job))
	if !tracked(pod) {
		next.Finalizers = append(slices.Clone(pod.Finalizers), batchv1.JobTrackingFinalizer)
	}
	return &next
}

// letGo returns the pod as nobody's.
func (o owner) letGo(pod *corev1.Pod) *corev1.Pod {
	next := *pod
	next.OwnerReferences = o.otherOwners(pod)
	next.Finalizers = withoutTracking(pod)
	return &next
}

// otherOwners are the pod's owners without this one.
func (o owner) otherOwners(pod *corev1.Pod) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(pod.OwnerReferences),
		func(r metav1.OwnerReference) bool { return r.UID == o.job.UID })
}

// newPod returns a pod of the template. Its name and uid are for others to give.
func (o owner) newPod() *corev1.Pod {
	t := &o.job.Spec.Template
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       o.job.Namespace,
			GenerateName:    o.job.Name + "-",
			Labels:          maps.Clone(t.Labels),
			Annotations:     maps.Clone(t.Annotations),
			Finalizers:      slices.Clone(t.Finalizers),
			OwnerReferences: []metav1.OwnerReference{controllerRef(o.job)},
		},
	}
	t.Spec.DeepCopyInto(&pod.Spec)
	if !tracked(pod) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	return pod
}

func controllerRef(job *batchv1.Job) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}
}

func withoutTracking(pod *corev1.Pod) []string {
	if !tracked(pod) {
		return pod.Finalizers
	}
	return slices.DeleteFunc(slices.Clone(pod.Finalizers), func(f string) bool { return f == batchv1.JobTrackingFinalizer })
}
