// Package lifecycle is the core of nodes that are lost, and of the pods that were on them. It
// follows Kubernetes' node lifecycle and taint eviction controllers.
//
// A node that has not renewed its lease for a grace period is not known to be well (Health):
// its conditions become Unknown, its pods not ready. A node that is not ready, or short of
// something, or cordoned, has a taint for that (Taints): NoSchedule at once, NoExecute at a rate,
// so that a network that fails does not empty all nodes. Pods go when they do not tolerate a
// NoExecute taint, or no longer (Evictions). Their containers may go on meanwhile: whether that
// is so, nobody can know who does not hear of the node. It ends them when it is back.
//
// Every function is pure: how long a taint is there is written in the taint.
package lifecycle

import (
	"fmt"
	"iter"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Kubernetes' periods: how long a node is believed to be well, and a new one to be starting.
const (
	GracePeriod        = 50 * time.Second
	StartupGracePeriod = 60 * time.Second
)

// batch bounds the writes of one Set.
const batch = 500

// components under whose names the events stand.
const (
	nodeController  = "node-controller"
	evictController = "taint-eviction-controller"
)

// Monitor says how long a node may be silent.
type Monitor struct {
	Grace, Startup time.Duration
	// Since is when somebody began to listen: what was silent before says nothing.
	Since time.Time
}

// Silent is a node, with its lease (nil: it has none) and its pods that are not over.
type Silent struct {
	Node  *corev1.Node
	Lease *coordinationv1.Lease
	Pods  iter.Seq[*corev1.Pod]
}

// Health says of a node that has been silent for too long that nobody knows how it is, and
// that its pods are not ready. Else it asks to be woken when the node's time is up.
func Health(now time.Time, m Monitor, s Silent) change.Set {
	var set change.Set
	if due := s.due(m); now.Before(due) {
		set.Wake(due)
		return set
	}
	node := s.Node
	if status, is := condition(node, corev1.NodeReady); is == nil || status != corev1.ConditionUnknown {
		next := *node // shares everything but the conditions
		next.Status.Conditions = unknown(node, now)
		set.Update(kind.Nodes.Key("", node.Name), change.RevOf(node), &next)
		if status == corev1.ConditionTrue {
			set.Note(change.Note{
				Regarding: regarding(node), Component: nodeController, Type: corev1.EventTypeNormal, Reason: reason.NodeNotReady,
				Message: fmt.Sprintf("Node %s status is now: NodeNotReady", node.Name),
			})
		}
	}
	for pod := range s.Pods {
		if len(set.Writes) >= batch {
			set.Wake(now)
			break
		}
		unready(&set, pod, now)
	}
	return set
}

// due is when the node's time is up: a grace period after it was last heard of.
func (s Silent) due(m Monitor) time.Time {
	heard, grace := m.Since, m.Grace
	later := func(t time.Time) {
		if t.After(heard) {
			heard = t
		}
	}
	if _, is := condition(s.Node, corev1.NodeReady); is != nil {
		if is.Status != corev1.ConditionUnknown {
			later(is.LastHeartbeatTime.Time)
		}
	} else {
		grace = m.Startup
		later(s.Node.CreationTimestamp.Time)
	}
	if s.Lease != nil && s.Lease.Spec.RenewTime != nil {
		later(s.Lease.Spec.RenewTime.Time)
	}
	return heard.Add(grace)
}

// unknown returns the conditions of a node that nobody hears of.
func unknown(node *corev1.Node, now time.Time) []corev1.NodeCondition {
	conditions := append([]corev1.NodeCondition(nil), node.Status.Conditions...)
	at := metav1.NewTime(now.Truncate(time.Second))
next:
	for _, t := range [...]corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		for i := range conditions {
			c := &conditions[i]
			if c.Type != t {
				continue
			}
			if c.Status != corev1.ConditionUnknown {
				c.Status, c.LastTransitionTime = corev1.ConditionUnknown, at
				c.Reason, c.Message = "NodeStatusUnknown", "Kubelet stopped posting node status."
			}
			continue next
		}
		conditions = append(conditions, corev1.NodeCondition{
			Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
			LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: at,
		})
	}
	return conditions
}

// unready says of a pod that it is not ready, if it says that it is.
func unready(set *change.Set, pod *corev1.Pod, now time.Time) {
	is := kind.PodCondition(pod, corev1.PodReady)
	if is == nil || is.Status != corev1.ConditionTrue {
		return
	}
	next := pod.DeepCopy()
	c := *is
	c.Status, c.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(now.Truncate(time.Second))
	podspec.SetCondition(&next.Status, c)
	set.Update(kind.Pods.Key(pod.Namespace, pod.Name), change.RevOf(pod), next)
	set.Note(change.Note{
		Regarding: aboutPod(pod), Component: nodeController, Type: corev1.EventTypeWarning,
		Reason: reason.NodeNotReady, Message: "Node is not ready",
	})
}

// condition returns a condition of the node and its status, which is Unknown if there is none.
func condition(node *corev1.Node, t corev1.NodeConditionType) (corev1.ConditionStatus, *corev1.NodeCondition) {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == t {
			return c.Status, c
		}
	}
	return corev1.ConditionUnknown, nil
}

func regarding(node *corev1.Node) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
}

func aboutPod(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
}
