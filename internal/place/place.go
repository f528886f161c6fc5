// Package place is the core that binds pods to nodes: kube-scheduler's filters,
// in its order and with its words, over one consistent view; its scores, where
// several nodes are left; and its preemption, where none is.
//
// It owns no capacity book: what a node has left is summed from the pods that
// are bound to it and not terminal, in the same view, when a decision needs it.
//
// In the order of events: place.go takes the pods one after the other (alike.go: those that are
// as the one before for whom there was no place wait, too), filter.go finds
// the nodes that a pod may have (match.go, room.go, affinity.go, spread.go), score.go the
// best of them, preempt.go whom it may drive away, message.go the words for all that.
package place

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/claim"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Component is the name under which placement reports.
const Component = "default-scheduler"

// Node is a node with what is bound to it.
type Node struct {
	Node *corev1.Node
	// Active yields the node's pods that are not terminal; Count is their
	// number. Active is read only when a pod asks for something that can run
	// out, or when there is a choice of nodes.
	Active iter.Seq[*corev1.Pod]
	Count  int
	// Affine are those of Active that want to be near other pods, or far from them.
	Affine []*corev1.Pod
}

// NewNode counts what is bound to a node.
func NewNode(node *corev1.Node, active iter.Seq[*corev1.Pod]) Node {
	n := Node{Node: node, Active: active}
	for pod := range active {
		n.Count++
		if hasPodAffinity(pod) {
			n.Affine = append(n.Affine, pod)
		}
	}
	return n
}

// State is what Decide reads.
type State struct {
	// Unbound holds the pods without a node, oldest first. Decide takes those of higher
	// priority before others.
	Unbound []*corev1.Pod
	Nodes   []Node
	// Others has the namespaces, for the labels that terms of affinity select by, and the
	// PodDisruptionBudgets of those who might have to go.
	Others kind.Getter
	// Row is that of pods.
	Row *kind.Kind
	// Claims is what there is of volumes. What is decided about them is in the Set, with the
	// pods that are bound. nil: there are none.
	Claims *claim.Ledger
}

// batch bounds one Set, so that ten thousand waiting pods starve nobody.
const batch = 500

// Decide binds every unbound pod that fits somewhere, and says of each other
// one why it does not; where pods of lower priority can go for it, they are told to.
func Decide(now time.Time, s State) change.Set {
	d := decision{cluster: newCluster(&s), now: now, cleared: map[string]int32{}}
	for _, pod := range byPriority(s.Unbound) {
		if !eligible(pod) {
			continue
		}
		if len(d.set.Writes) >= batch {
			d.set.Wake(now)
			break
		}
		d.place(pod)
	}
	if s.Claims != nil {
		s.Claims.Write(&d.set)
	}
	return d.set
}

// decision is a Set in the making.
type decision struct {
	*cluster
	now time.Time
	set change.Set
	// cleared are the nodes on which somebody has driven others away, and with which
	// priority: whoever waited there with less need not wait there any more.
	cleared map[string]int32
	// refused holds why pods found no place since something was booked last.
	refused verdicts
}

// place binds one pod, or has it wait.
func (d *decision) place(pod *corev1.Pod) {
	if why, known := d.refused.of(pod); known {
		d.wait(pod, pod, why)
		return
	}
	next := pod.DeepCopy()
	if p, done := d.cleared[pod.Status.NominatedNodeName]; done && priorityOf(pod) < p {
		next.Status.NominatedNodeName = ""
	}
	t := d.try(pod)
	best, why := t.choose()
	if best != nil && t.claims != nil {
		bound, later := t.claims.Take(best.Node.Node)
		switch {
		case !bound && later == "":
			return // its volumes are being made
		case !bound:
			best, why = nil, later
		}
	}
	if best != nil {
		best.take(pod)
		d.refused = nil
		d.set.Note(Bind(next, best.Node.Node.Name, d.now))
		d.set.Update(d.row.KeyOf(pod), change.RevOf(pod), next)
		return
	}
	if why == "" {
		why = d.preempt(t, next)
	}
	if next.Status.NominatedNodeName != "" {
		d.refused = nil
	} else if t.plain() {
		d.refused.add(verdict{pod, why})
	}
	d.wait(pod, next, why)
}

// wait has pod say that no node takes it, if it does not say so yet. next is the pod as it
// will be, or pod itself, if nothing else of it changes.
func (d *decision) wait(pod, next *corev1.Pod, why string) {
	if says(pod, why) && next.Status.NominatedNodeName == pod.Status.NominatedNodeName {
		return
	}
	if next == pod {
		next = pod.DeepCopy()
	}
	refuse(next, why, d.now, &d.set)
	d.set.Update(d.row.KeyOf(pod), change.RevOf(pod), next)
}

func priorityOf(pod *corev1.Pod) int32 { return ptr.Deref(pod.Spec.Priority, 0) }

// byPriority returns pods, those of higher priority first, else in their order.
func byPriority(pods []*corev1.Pod) []*corev1.Pod {
	higher := func(a, b *corev1.Pod) int {
		return cmp.Compare(priorityOf(b), priorityOf(a))
	}
	if slices.IsSortedFunc(pods, higher) {
		return pods
	}
	sorted := slices.Clone(pods)
	slices.SortStableFunc(sorted, higher)
	return sorted
}

// Bind binds pod, which the caller owns, to node, and returns the note that
// says so.
func Bind(pod *corev1.Pod, node string, now time.Time) change.Note {
	pod.Spec.NodeName, pod.Status.NominatedNodeName = node, ""
	podspec.SetCondition(&pod.Status, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue,
		LastTransitionTime: metav1.NewTime(now), ObservedGeneration: pod.Generation,
	})
	return change.Note{
		Regarding: regarding(pod), Component: Component,
		Type: corev1.EventTypeNormal, Reason: reason.Scheduled,
		Message: fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node),
	}
}

// Trivial reports whether pod can be bound to n without looking at any other
// pod: it asks for nothing that can run out, and n is less than half full. Such
// a pod may be bound in the very set that creates it.
func Trivial(pod *corev1.Pod, n Node) bool {
	if !eligible(pod) || asks(pod) {
		return false
	}
	limit := n.Node.Status.Allocatable.Pods().Value()
	return int64(n.Count) < limit/2 && len(n.Affine) == 0 && !hasPodAffinity(pod) &&
		len(pod.Spec.TopologySpreadConstraints) == 0 && mismatch(n.Node, pod) == ""
}

// eligible reports whether pod is ours to place now.
func eligible(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil &&
		len(pod.Spec.SchedulingGates) == 0 && pod.Spec.SchedulerName == Component
}

// asks reports whether pod needs something that nodes have only so much of,
// besides a place among the node's pods.
func asks(pod *corev1.Pod) bool {
	hungry := func(c corev1.Container) bool { return len(c.Resources.Requests) > 0 || wantsPort(c) }
	return asksBesides(pod) || slices.ContainsFunc(pod.Spec.Containers, hungry) || slices.ContainsFunc(pod.Spec.InitContainers, hungry)
}

// asksBesides reports whether pod needs such things besides what its containers do.
func asksBesides(pod *corev1.Pod) bool {
	return pod.Spec.Resources != nil || len(pod.Spec.Overhead) > 0 || len(pod.Spec.ResourceClaims) > 0 || claim.Any(pod)
}

func wantsPort(c corev1.Container) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.HostPort > 0 })
}

// says reports whether pod says already that no node takes it, for this reason.
func says(pod *corev1.Pod, why string) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message == why
	})
}

// refuse records in pod, which the caller owns, that no node takes it, unless it says so, and
// makes a note of it.
func refuse(pod *corev1.Pod, why string, now time.Time, set *change.Set) {
	if says(pod, why) {
		return
	}
	podspec.SetCondition(&pod.Status, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: why,
		LastTransitionTime: metav1.NewTime(now), ObservedGeneration: pod.Generation,
	})
	set.Note(change.Note{
		Regarding: regarding(pod), Component: Component,
		Type: corev1.EventTypeWarning, Reason: reason.FailedScheduling, Message: why,
	})
}

func regarding(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
}
