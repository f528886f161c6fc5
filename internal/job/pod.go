package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// tracked: the pod carries the finalizer that says that it is not counted yet.
func tracked(pod *corev1.Pod) bool {
	for _, f := range pod.Finalizers {
		if f == batchv1.JobTrackingFinalizer {
			return true
		}
	}
	return false
}

func ready(pod *corev1.Pod) bool {
	c := kind.PodCondition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// noIndex is the completion index of a pod that has none.
const noIndex int32 = -1

// indexOf returns the pod's completion index, noIndex when it has none below
// completions.
func indexOf(pod *corev1.Pod, completions int32) int32 {
	i, rest, ok, _ := parseIndex(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if !ok || rest != "" || i >= completions {
		return noIndex
	}
	return i
}

// count reads an annotation that counts; anything else than a count is 0.
func count(pod *corev1.Pod, annotation string) int32 {
	n, rest, ok, _ := parseIndex(pod.Annotations[annotation])
	if !ok || rest != "" {
		return 0
	}
	return n
}

// earlierFailures is how many pods of its index failed before this one.
func earlierFailures(pod *corev1.Pod) int32 {
	return count(pod, batchv1.JobIndexFailureCountAnnotation)
}

// earlierIgnored is how many of them podFailurePolicy ignored besides.
func earlierIgnored(pod *corev1.Pod) int32 {
	return count(pod, batchv1.JobIndexIgnoredFailureCountAnnotation)
}

// endOf is when the pod ended, as well as the pod tells it: by its containers
// (sidecars included, for they end last), by the end of its readiness, by the
// moment at which its deletion was asked for, or else its creation.
func endOf(pod *corev1.Pod) time.Time {
	if t := endOfContainers(pod); !t.IsZero() {
		return t
	}
	if c := kind.PodCondition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Add(-kind.Seconds(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)))
	}
	return pod.CreationTimestamp.Time
}

// endOfContainers is when the last container ended; zero when not all have.
func endOfContainers(pod *corev1.Pod) time.Time {
	var last time.Time
	later := func(s *corev1.ContainerStatus) bool {
		t := s.State.Terminated
		if t == nil || t.FinishedAt.IsZero() {
			return false
		}
		if t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
		return true
	}
	for i := range pod.Status.ContainerStatuses {
		if !later(&pod.Status.ContainerStatuses[i]) {
			return time.Time{}
		}
	}
	for i := range pod.Status.InitContainerStatuses {
		s := &pod.Status.InitContainerStatuses[i]
		if kind.Sidecar(pod, s.Name) && !later(s) {
			return time.Time{}
		}
	}
	return last
}

// restarts sums the restarts of all containers.
func restarts(pod *corev1.Pod) int32 {
	var n int32
	for i := range pod.Status.InitContainerStatuses {
		n += pod.Status.InitContainerStatuses[i].RestartCount
	}
	for i := range pod.Status.ContainerStatuses {
		n += pod.Status.ContainerStatuses[i].RestartCount
	}
	return n
}
