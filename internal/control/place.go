package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/place"
)

// placeController binds pods. It has one key, so that no two decisions count on
// the same room.
func placeController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(pods)
	all := change.Key{Resource: "placement"}
	return Controller{
		Name: "place",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case nodes:
				add(all)
			case pods:
				pod := ev.Object.(*corev1.Pod)
				if pod.Spec.NodeName == "" || ev.Op == change.Delete || kind.PodEnded(pod) {
					add(all)
				}
			}
		},
		Decide: func(now time.Time, view change.View, _ change.Key) change.Set {
			s := place.State{}
			for obj := range view.Index(pods, kind.UnboundPods) {
				s.Unbound = append(s.Unbound, obj.(*corev1.Pod))
			}
			if len(s.Unbound) == 0 {
				return change.Set{}
			}
			s.Nodes = nodesOf(view)
			return place.Decide(now, s, func(p *corev1.Pod) (change.Key, uint64) { return k.KeyOf(p), change.RevOf(p) })
		},
	}
}

// placeCreated binds the pods that set creates, as far as that needs no look at
// other pods; the rest is the place controller's. Other sets do the same at this
// moment, and none sees the others: each takes no more than its share.
func placeCreated(now time.Time, view change.View, set *change.Set) {
	var node *place.Node
	var left int64
	for _, w := range set.Writes {
		pod, ok := w.Object.(*corev1.Pod)
		if !ok || w.Op != change.Create {
			continue
		}
		if node == nil {
			if node = onlyNode(view); node == nil {
				return
			}
			left = share(node.Node)
		}
		if left <= 0 || !place.Trivial(pod, *node) {
			continue
		}
		left--
		node.Count++
		set.Note(place.Bind(pod, node.Node.Name, now))
	}
}

// share is how many pods a set may bind unseen, so that the half of the node that
// place.Trivial keeps free has room for what all workers bind at a time, the
// place controller included. A small node has none to give away.
func share(node *corev1.Node) int64 {
	const placed = 1000 // by the place controller, in two sets
	return (node.Status.Allocatable.Pods().Value()/2 - placed) / MaxWorkers
}

// onlyNode returns the node if there is just one that is ready; with several,
// which one is best is not a trivial question.
func onlyNode(view change.View) *place.Node {
	all := nodesOf(view)
	if len(all) != 1 {
		return nil
	}
	return &all[0]
}

// nodesOf returns the nodes that are ready, with what is bound to them.
func nodesOf(view change.View) []place.Node {
	var all []place.Node
	for obj := range view.List(nodes, "") {
		node := obj.(*corev1.Node)
		if !ready(node) {
			continue
		}
		term := kind.ActivePods(node.Name)
		n := place.Node{Node: node, Active: func(yield func(*corev1.Pod) bool) {
			for obj := range view.Index(pods, term) {
				if !yield(obj.(*corev1.Pod)) {
					return
				}
			}
		}}
		for range n.Active {
			n.Count++
		}
		all = append(all, n)
	}
	return all
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
