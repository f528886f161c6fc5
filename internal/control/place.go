package control

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/claim"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/place"
)

// placeController binds pods. It has one key, so that no two decisions count on
// the same room.
func placeController(kinds *kind.Kinds, volumes string) Controller {
	k := kinds.ByResource(kind.Pods)
	all := change.Key{Resource: "placement"}
	return Controller{
		Name: "place",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.Nodes, kind.PersistentVolumeClaims, kind.PersistentVolumes, kind.StorageClasses:
				add(all)
			case kind.Pods:
				pod := ev.Object.(*corev1.Pod)
				if pod.Spec.NodeName == "" || ev.Op == change.Delete || kind.PodEnded(pod) {
					add(all)
				}
			}
		},
		Decide: func(now time.Time, view change.View, _ change.Key, refused error) change.Set {
			s := place.State{Others: view, Row: k, Claims: claim.New(now, claimState(kinds, view, volumes, refused))}
			for obj := range view.Index(kind.Pods, kind.UnboundPods) {
				s.Unbound = append(s.Unbound, obj.(*corev1.Pod))
			}
			if len(s.Unbound) == 0 {
				return change.Set{}
			}
			s.Nodes = nodesOf(view)
			return place.Decide(now, s)
		},
	}
}

// bindTrivial binds a new pod, as far as that needs no look at other pods, which
// saves it a commit; the rest is the place controller's. Other sets do the same at
// this moment, and none sees the others: each takes no more than its share.
func bindTrivial(c *completion, _ *kind.Kind, w *change.Write) error {
	pod, ok := w.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if c.vacancy == nil {
		c.vacancy = vacancyOf(c.view)
	}
	if v := c.vacancy; v.left > 0 && place.Trivial(pod, v.node) {
		v.left--
		v.node.Count++
		c.set.Note(place.Bind(pod, v.node.Node.Name, c.now))
	}
	return nil
}

// vacancy is a node that new pods may be bound to unseen, and how many.
type vacancy struct {
	node place.Node
	left int64
}

// vacancyOf finds room if there is just one node that is ready; with several, which
// one is best is not a trivial question. Each set that creates pods asks, so that it does not look
// at the pods that there are, unless they are so many that it matters how many of them have ended.
func vacancyOf(view change.View) *vacancy {
	all := slices.DeleteFunc(allNodes(view), func(n *corev1.Node) bool { return !ready(n) })
	if len(all) != 1 {
		return &vacancy{}
	}
	n, left := place.Node{Node: all[0], Count: view.Len(kind.Pods)}, share(all[0])
	if int64(n.Count)+left >= n.Node.Status.Allocatable.Pods().Value()/2 {
		n.Count = 0
		for range activePods(view, n.Node.Name) {
			n.Count++
		}
	}
	for obj := range view.Index(kind.Pods, kind.AffinePods(n.Node.Name)) {
		n.Affine = append(n.Affine, obj.(*corev1.Pod))
	}
	return &vacancy{node: n, left: left}
}

// share is how many pods a set may bind unseen, so that the half of the node that
// place.Trivial keeps free has room for what all workers bind at a time, the
// place controller included. A small node has none to give away.
func share(node *corev1.Node) int64 {
	const placed = 1000 // by the place controller, in two sets
	return (node.Status.Allocatable.Pods().Value()/2 - placed) / MaxWorkers
}

// nodesOf returns the nodes that have said how they are, with what is bound to them.
func nodesOf(view change.View) []place.Node {
	var all []place.Node
	for obj := range view.List(kind.Nodes, "") {
		node := obj.(*corev1.Node)
		if !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }) {
			continue
		}
		all = append(all, place.NewNode(node, activePods(view, node.Name)))
	}
	return all
}
