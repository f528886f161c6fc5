package control

import (
	"iter"
	"slices"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/lifecycle"
)

// Nodes say how nodes are watched that may fall silent.
type Nodes struct {
	// Grace is how long a node may be silent; 0: nobody listens.
	Grace time.Duration
	Vigil *Vigil
}

// Vigil is since when somebody listens to the nodes. Whoever did not listen, or has slept, or had
// his clock set, cannot know how long they were silent.
type Vigil struct{ since atomic.Int64 }

// Begin makes now the time since which nodes are listened to.
func (v *Vigil) Begin(now time.Time) { v.since.Store(now.UnixNano()) }

// Since is when it began.
func (v *Vigil) Since() time.Time { return time.Unix(0, v.since.Load()) }

// healthController says of nodes that are silent that nobody knows how they are. Its keys are
// nodes; no lease dirties one, since each is looked at when its time would be up.
func healthController(nodes Nodes) Controller {
	return Controller{
		Name: "node-health",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			if ev.Key.Resource == kind.Nodes && ev.Op != change.Delete {
				add(ev.Key)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			node := at[*corev1.Node](view, kind.Nodes, "", key.Name)
			if node == nil {
				return change.Set{}
			}
			startup := max(nodes.Grace, lifecycle.StartupGracePeriod)
			return lifecycle.Health(now, lifecycle.Monitor{Grace: nodes.Grace, Startup: startup, Since: nodes.Vigil.Since()}, lifecycle.Silent{
				Node:  node,
				Lease: at[*coordinationv1.Lease](view, kind.Leases, corev1.NamespaceNodeLease, node.Name),
				Pods:  activePods(view, node.Name),
			})
		},
	}
}

// taintController keeps pods away from nodes that have too little of something, are cordoned, or
// are lost.
func taintController() Controller {
	return Controller{
		Name: "taint",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			if ev.Key.Resource != kind.Nodes {
				return
			}
			if ev.Op != change.Delete {
				add(ev.Key)
			}
			if concernsAll(ev) { // whether others are tainted depends on how many are lost
				for obj := range view.List(kind.Nodes, "") {
					add(kind.Nodes.Key("", obj.GetName()))
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			var set change.Set
			node := at[*corev1.Node](view, kind.Nodes, "", key.Name)
			if node == nil {
				return set
			}
			taints, changed, wake := lifecycle.Taints(now, node, allNodes(view))
			if changed {
				next := *node // shares everything but the taints
				next.Spec.Taints = taints
				set.Update(key, change.RevOf(node), &next)
			}
			if !wake.IsZero() {
				set.Wake(wake)
			}
			return set
		},
	}
}

// concernsAll reports whether a write of a node may change the taints of others.
func concernsAll(ev change.Event) bool {
	if ev.Op != change.Update || ev.Prev == nil {
		return ev.Op == change.Delete
	}
	node, prev := ev.Object.(*corev1.Node), ev.Prev.(*corev1.Node)
	return ready(node) != ready(prev)
}

// evictionController deletes the pods of nodes whose taints they do not tolerate. Its keys are
// nodes.
func evictionController(kinds *kind.Kinds) Controller {
	row := kinds.ByResource(kind.Pods)
	return Controller{
		Name: "taint-eviction",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch obj := ev.Object.(type) {
			case *corev1.Node:
				if ev.Op != change.Delete && lifecycle.Executes(obj) {
					add(ev.Key)
				}
			case *corev1.Pod:
				if obj.Spec.NodeName == "" || ev.Op == change.Delete {
					return
				}
				prev, ok := ev.Prev.(*corev1.Pod)
				if ok && prev.Spec.NodeName == obj.Spec.NodeName && equality.Semantic.DeepEqual(prev.Spec.Tolerations, obj.Spec.Tolerations) &&
					(prev.DeletionTimestamp == nil) == (obj.DeletionTimestamp == nil) {
					return
				}
				if node := at[*corev1.Node](view, kind.Nodes, "", obj.Spec.NodeName); node != nil && lifecycle.Executes(node) {
					add(kind.Nodes.Key("", node.Name))
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			node := at[*corev1.Node](view, kind.Nodes, "", key.Name)
			if node == nil {
				return change.Set{}
			}
			return lifecycle.Evictions(now, node, row, activePods(view, node.Name))
		},
	}
}

// activePods yields the pods of a node that are not over.
func activePods(view change.View, node string) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for obj := range view.Index(kind.Pods, kind.ActivePods(node)) {
			if !yield(obj.(*corev1.Pod)) {
				return
			}
		}
	}
}

// allNodes returns the nodes, in the order of their names.
func allNodes(view change.View) []*corev1.Node {
	var all []*corev1.Node
	for obj := range view.List(kind.Nodes, "") {
		all = append(all, obj.(*corev1.Node))
	}
	return all
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
