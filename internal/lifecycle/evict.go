package lifecycle

import (
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Executes reports whether the node has a taint by which pods may have to go.
func Executes(node *corev1.Node) bool {
	for i := range node.Spec.Taints {
		if node.Spec.Taints[i].Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return false
}

// Evictions deletes the pods of a node that do not tolerate one of its NoExecute taints, or have
// tolerated it for as long as they said; pods are the row of pods, on those of the node that are
// not over. It asks to be woken when the next one's time is up.
func Evictions(now time.Time, node *corev1.Node, row *kind.Kind, pods iter.Seq[*corev1.Pod]) change.Set {
	var set change.Set
	taints := executing(node)
	if len(taints) == 0 {
		return set
	}
	abandoned := outOfService(node)
	for pod := range pods {
		if len(set.Writes) >= batch {
			set.Wake(now)
			break
		}
		if pod.DeletionTimestamp != nil {
			if abandoned {
				abandon(&set, row, pod, now)
			}
			continue
		}
		switch at, ever := due(pod, taints); {
		case !ever:
		case at.After(now):
			set.Wake(at)
		default:
			evict(&set, row, pod, now)
		}
	}
	return set
}

// executing returns the node's NoExecute taints.
func executing(node *corev1.Node) (taints []corev1.Taint) {
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			taints = append(taints, t)
		}
	}
	return taints
}

// due is when a pod has to go because of taints, if ever: the shortest of its tolerations
// after the last of the taints, or after it was bound, has come.
func due(pod *corev1.Pod, taints []corev1.Taint) (at time.Time, ever bool) {
	var shortest *int64
	for i := range taints {
		used := slices.IndexFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(klog.Logger{}, &taints[i], false) })
		if used < 0 {
			return time.Time{}, true
		}
		if s := pod.Spec.Tolerations[used].TolerationSeconds; s != nil && (shortest == nil || *s < *shortest) {
			shortest = s
		}
	}
	switch {
	case shortest == nil:
		return time.Time{}, false
	case *shortest <= 0:
		return time.Time{}, true
	}
	begun := pod.CreationTimestamp.Time
	if c := kind.PodCondition(pod, corev1.PodScheduled); c != nil && c.LastTransitionTime.After(begun) {
		begun = c.LastTransitionTime.Time
	}
	for _, t := range taints {
		if t.TimeAdded != nil && t.TimeAdded.After(begun) {
			begun = t.TimeAdded.Time
		}
	}
	return begun.Add(kind.Seconds(*shortest)), true
}

// evict begins the deletion of a pod, and says in it why, in one write.
func evict(set *change.Set, row *kind.Kind, pod *corev1.Pod, now time.Time) {
	next := pod.DeepCopy()
	podspec.SetCondition(&next.Status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
		Message: "Taint manager: deleting due to NoExecute taint", LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)), ObservedGeneration: pod.Generation,
	})
	w, ok := row.Removal(next, change.RevOf(pod), now, nil)
	if !ok {
		return
	}
	set.Writes = append(set.Writes, w)
	about := aboutPod(pod)
	set.Note(change.Note{
		Regarding: about, Component: evictController, Type: corev1.EventTypeNormal, Reason: reason.TaintManagerEviction,
		Message: fmt.Sprintf("Marking for deletion Pod %s/%s", pod.Namespace, pod.Name),
	})
}

// outOfService reports whether somebody has said so of a node that is not ready.
func outOfService(node *corev1.Node) bool {
	status, _ := condition(node, corev1.NodeReady)
	for i := range node.Spec.Taints {
		if node.Spec.Taints[i].Key == corev1.TaintNodeOutOfService {
			return status != corev1.ConditionTrue
		}
	}
	return false
}

// abandon lets go of a pod that is being deleted on a node of which somebody has said that it
// is out of service: nobody will ever confirm its end.
func abandon(set *change.Set, row *kind.Kind, pod *corev1.Pod, now time.Time) {
	next := pod.DeepCopy()
	next.Status.Phase, next.Status.ObservedGeneration = corev1.PodFailed, pod.Generation
	if w, ok := row.Removal(next, change.RevOf(pod), now, new(int64)); ok {
		set.Writes = append(set.Writes, w)
	}
}
