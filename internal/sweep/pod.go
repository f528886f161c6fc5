package sweep

import (
	"cmp"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
	"github.com/sampan-batch/sampan/internal/reason"
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

// TerminatedPods deletes the oldest terminated pods beyond keep, those that were evicted before
// others.
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
		return cmp.Or(evictedFirst(a, b), at.Compare(bt.Time), cmp.Compare(a.Object.GetName(), b.Object.GetName()))
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

// evictedFirst orders pods that have nothing to tell but that there was no room for them
// before others.
func evictedFirst(a, b Item) int {
	evicted := func(i Item) bool {
		s := &i.Object.(*corev1.Pod).Status
		return s.Phase == corev1.PodFailed && s.Reason == "Evicted"
	}
	switch ea, eb := evicted(a), evicted(b); {
	case ea && !eb:
		return -1
	case eb && !ea:
		return 1
	}
	return 0
}

// OrphanPatience is how long a node may be missing before its pods go: it may come back.
const OrphanPatience = 40 * time.Second

// OrphanedPods ends and deletes the pods of a node that does not exist: nobody runs them, and
// nobody will ever say how they ended.
func OrphanedPods(now time.Time, node string, pods iter.Seq[Item]) change.Set {
	var set change.Set
	for item := range pods {
		if len(set.Writes) == batch {
			set.Wake(now)
			break
		}
		before := len(set.Writes)
		endOrphan(&set, item, now)
		if len(set.Writes) > before {
			set.Note(change.Note{
				Regarding: corev1.ObjectReference{
					APIVersion: "v1", Kind: "Pod", Namespace: item.Object.GetNamespace(), Name: item.Object.GetName(),
					UID: item.Object.GetUID(), ResourceVersion: item.Object.GetResourceVersion(),
				},
				Component: "pod-garbage-collector-controller", Type: corev1.EventTypeWarning, Reason: reason.DeletionByPodGC,
				Message: "PodGC: node " + node + " no longer exists",
			})
		}
	}
	return set
}

// endOrphan lets a pod fail, and deletes it at once, in one write.
func endOrphan(set *change.Set, item Item, now time.Time) {
	pod := item.Object.(*corev1.Pod)
	ended := kind.PodEnded(pod)
	if !ended {
		pod = pod.DeepCopy()
		pod.Status.Phase, pod.Status.ObservedGeneration = corev1.PodFailed, pod.Generation
		podspec.SetCondition(&pod.Status, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason.DeletionByPodGC,
			Message: "PodGC: node no longer exists", LastTransitionTime: metav1.NewTime(now), ObservedGeneration: pod.Generation,
		})
	}
	switch w, ok := item.Kind.Removal(pod, item.rev(), now, new(int64)); {
	case ok:
		set.Writes = append(set.Writes, w)
	case !ended: // its deletion has begun already
		update(set, item, pod)
	}
}
