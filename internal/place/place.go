// Package place is the core that binds pods to nodes: kube-scheduler's filters,
// in its order and with its words, over one consistent view.
//
// It owns no capacity book: what a node has left is summed from the pods that
// are bound to it and not terminal, in the same view, when a decision needs it.
//
// Not decided here yet: inter-pod affinity, topology spread, preemption.
package place

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/claim"
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
	// out.
	Active iter.Seq[*corev1.Pod]
	Count  int
}

// State is what Decide reads.
type State struct {
	// Unbound holds the pods without a node, oldest first. Decide takes those of higher
	// priority before others.
	Unbound []*corev1.Pod
	Nodes   []Node
	// Claims is what there is of volumes. What is decided about them is in the Set, with the
	// pods that are bound. nil: there are none.
	Claims *claim.Ledger
}

// noPorts is, besides claim.InUse, the only refusal of a whole node that evicting pods could lift.
const noPorts = "node(s) didn't have free ports for the requested pod ports"

// batch bounds one Set, so that ten thousand waiting pods starve nobody.
const batch = 500

// Decide binds every unbound pod that fits somewhere, and says of each other
// one why it does not. key and rev tell how the caller names a pod.
func Decide(now time.Time, s State, key func(*corev1.Pod) (change.Key, uint64)) change.Set {
	var set change.Set
	rooms := make([]*room, len(s.Nodes))
	for i := range s.Nodes {
		rooms[i] = &room{Node: &s.Nodes[i]}
	}
	for _, pod := range byPriority(s.Unbound) {
		if !eligible(pod) {
			continue
		}
		if len(set.Writes) == batch {
			set.Wake(now)
			break
		}
		k, rev := key(pod)
		next := pod.DeepCopy()
		best, claims, why := choose(rooms, pod, s.Claims)
		if best != nil && claims != nil {
			var bound bool
			if bound, why = claims.Take(best.Node.Node); !bound {
				best = nil
			}
		}
		if best != nil {
			best.take(pod)
			set.Note(Bind(next, best.Node.Node.Name, now))
		} else if why == "" || !refuse(next, why, now, &set) {
			continue
		}
		set.Update(k, rev, next)
	}
	if s.Claims != nil {
		s.Claims.Write(&set)
	}
	return set
}

// byPriority returns pods, those of higher priority first, else in their order.
func byPriority(pods []*corev1.Pod) []*corev1.Pod {
	higher := func(a, b *corev1.Pod) int {
		return cmp.Compare(ptr.Deref(b.Spec.Priority, 0), ptr.Deref(a.Spec.Priority, 0))
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
	pod.Spec.NodeName = node
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
	return int64(n.Count) < limit/2 && mismatch(n.Node, pod) == ""
}

// eligible reports whether pod is ours to place now.
func eligible(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil &&
		len(pod.Spec.SchedulingGates) == 0 && pod.Spec.SchedulerName == Component
}

// asks reports whether pod needs something that nodes have only so much of,
// besides a place among the node's pods.
func asks(pod *corev1.Pod) bool {
	if pod.Spec.Resources != nil || len(pod.Spec.Overhead) > 0 || len(pod.Spec.ResourceClaims) > 0 || claim.Any(pod) {
		return true
	}
	hungry := func(c corev1.Container) bool {
		return len(c.Resources.Requests) > 0 ||
			slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.HostPort > 0 })
	}
	return slices.ContainsFunc(pod.Spec.Containers, hungry) || slices.ContainsFunc(pod.Spec.InitContainers, hungry)
}

// choose returns the room with the fewest pods that has room for pod, and its claims, which are
// to be bound there; or why none has, as kube-scheduler says it.
func choose(rooms []*room, pod *corev1.Pod, ledger *claim.Ledger) (*room, *claim.Pod, string) {
	why, claims := unclaimed(pod, ledger)
	if why != "" && len(rooms) > 0 {
		return nil, nil, nowhere(len(rooms), why)
	}
	var best *room
	refused := map[string]int{}
	for _, r := range rooms {
		reasons := r.refuses(pod)
		if len(reasons) == 0 && claims != nil {
			if why := claims.Refuses(r.Node.Node); why != "" {
				reasons = []string{why}
			}
		}
		if len(reasons) > 0 {
			for _, reason := range reasons {
				refused[reason]++
			}
			continue
		}
		if best == nil || r.emptier(best) {
			best = r
		}
	}
	if best != nil {
		return best, claims, ""
	}
	return nil, nil, unschedulable(len(rooms), refused)
}

// Never returns why pod could not run on node even if nothing else did, in
// kube-scheduler's words; nothing when it could.
func Never(node *corev1.Node, pod *corev1.Pod) []string {
	empty := room{Node: &Node{Node: node, Active: func(func(*corev1.Pod) bool) {}}}
	return empty.refuses(pod)
}

// room is a node during one decision: used grows as pods are bound.
type room struct {
	*Node
	used  corev1.ResourceList // nil until needed
	ports map[hostPort]bool
	bound int // by this decision
}

type hostPort struct {
	protocol corev1.Protocol
	ip       string
	port     int32
}

// refuses returns why pod cannot run on the node, in kube-scheduler's words;
// nothing when it can.
func (r *room) refuses(pod *corev1.Pod) []string {
	if why := mismatch(r.Node.Node, pod); why != "" {
		return []string{why}
	}
	var why []string
	allocatable := r.Node.Node.Status.Allocatable
	if int64(r.Count+r.bound) >= allocatable.Pods().Value() {
		why = append(why, "Too many pods")
	}
	if !asks(pod) {
		return why
	}
	r.sum()
	for _, p := range hostPorts(pod) {
		if r.conflicts(p) {
			why = append(why, noPorts)
			break
		}
	}
	for name, want := range resource.PodRequests(pod, resource.PodResourcesOptions{}) {
		if want.IsZero() {
			continue
		}
		left := allocatable[name].DeepCopy()
		left.Sub(r.used[name])
		if want.Cmp(left) > 0 {
			why = append(why, "Insufficient "+string(name))
		}
	}
	return why
}

// sum adds up what the node's pods take, once.
func (r *room) sum() {
	if r.used != nil {
		return
	}
	r.used = corev1.ResourceList{}
	r.ports = map[hostPort]bool{}
	for pod := range r.Active {
		r.add(pod)
	}
}

func (r *room) add(pod *corev1.Pod) {
	// A pod whose resources are being changed counts with the most of what it has, was granted and asks for.
	for name, q := range resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true}) {
		sum := r.used[name]
		sum.Add(q)
		r.used[name] = sum
	}
	for _, p := range hostPorts(pod) {
		r.ports[p] = true
	}
}

// take books pod on the node for the rest of the decision.
func (r *room) take(pod *corev1.Pod) {
	r.bound++
	if r.used != nil {
		r.add(pod)
	}
}

func (r *room) emptier(than *room) bool {
	return r.Count+r.bound < than.Count+than.bound
}

func (r *room) conflicts(p hostPort) bool {
	for q := range r.ports {
		if q.port == p.port && q.protocol == p.protocol &&
			(q.ip == p.ip || q.ip == "0.0.0.0" || p.ip == "0.0.0.0") {
			return true
		}
	}
	return false
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				ip := p.HostIP
				if ip == "" {
					ip = "0.0.0.0"
				}
				ports = append(ports, hostPort{p.Protocol, ip, p.HostPort})
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if podspec.IsSidecar(c) {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return ports
}

// refuse records in pod, which the caller owns, that no node takes it. It
// reports false when pod says so already.
func refuse(pod *corev1.Pod, message string, now time.Time, set *change.Set) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message == message {
			return false
		}
	}
	podspec.SetCondition(&pod.Status, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: message,
		LastTransitionTime: metav1.NewTime(now), ObservedGeneration: pod.Generation,
	})
	set.Note(change.Note{
		Regarding: regarding(pod), Component: Component,
		Type: corev1.EventTypeWarning, Reason: reason.FailedScheduling, Message: message,
	})
	return true
}

// unschedulable words the refusals of all nodes as kube-scheduler does.
func unschedulable(nodes int, why map[string]int) string {
	if nodes == 0 {
		return "no nodes available to schedule pods"
	}
	hopeless := "No preemption victims found for incoming pod"
	var parts []string
	for reason, n := range why {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
		if n == nodes && strings.HasPrefix(reason, "node(s)") && reason != noPorts && reason != claim.InUse {
			hopeless = "Preemption is not helpful for scheduling"
		}
	}
	sort.Strings(parts)
	return fmt.Sprintf("0/%d nodes are available: %s. preemption: 0/%d nodes are available: %d %s.",
		nodes, strings.Join(parts, ", "), nodes, nodes, hopeless)
}

func regarding(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
}
