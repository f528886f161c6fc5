package sweep

import (
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// UnscheduledPod ends a pod that is being deleted before a node has it. No node
// will ever say that it has failed, and its Job may be waiting to hear that.
func UnscheduledPod(item Item) change.Set {
	var set change.Set
	pod := item.Object.(*corev1.Pod)
	if pod.DeletionTimestamp == nil || pod.Spec.NodeName != "" || kind.PodEnded(pod) {
		return set
	}
	next := pod.DeepCopy()
	next.Status.Phase = corev1.PodFailed
	next.Status.ObservedGeneration = pod.Generation
	update(&set, item, next)
	return set
}

// TerminatedPodThreshold is how many terminated pods Kubernetes keeps.
const TerminatedPodThreshold = 12500

// TerminatedPods deletes the oldest terminated pods beyond keep.
func TerminatedPods(now time.Time, pods iter.Seq[Item], keep int) change.Set {
	var set change.Set
	var ended []Item
	for item := range pods {
		pod := item.Object.(*corev1.Pod)
		if kind.PodEnded(pod) && pod.DeletionTimestamp == nil {
			ended = append(ended, item)
		}
	}
	if len(ended) <= keep {
		return set
	}
	slices.SortFunc(ended, func(a, b Item) int {
		at, bt := a.Object.GetCreationTimestamp(), b.Object.GetCreationTimestamp()
		return at.Compare(bt.Time)
	})
	for _, item := range ended[:len(ended)-keep] {
		if len(set.Writes) == batch {
			set.Wake(now)
			break
		}
		remove(&set, item, now, false)
	}
	return set
}
