package control

import (
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/daemonset"
	"github.com/sampan-batch/sampan/internal/kind"
)

// daemonSetController runs DaemonSets.
func daemonSetController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.DaemonSets)
	return Controller{
		Name: "daemonset",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.DaemonSets:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.Pods:
				podOwners(view, k, daemonSetSelector, ev, add)
			case kind.ControllerRevisions:
				// One that is new is looked at with the next change of something else, as in
				// Kubernetes: whoever has made it may not be done.
				if ev.Op != change.Create {
					controllersOf(k, ev, add)
				}
			case kind.Nodes:
				if concernsDaemons(ev) {
					for obj := range view.List(kind.DaemonSets, "") {
						add(k.KeyOf(obj))
					}
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			ds := obj.(*appsv1.DaemonSet)
			return daemonset.Decide(now, daemonset.State{
				Set: ds, Pods: podsOf(view, ds), Revisions: revisionsOf(view, ds), Nodes: allNodes(view),
				Revision: func(name string) *appsv1.ControllerRevision {
					return at[*appsv1.ControllerRevision](view, kind.ControllerRevisions, ds.Namespace, name)
				},
				PodKind: kinds.ByResource(kind.Pods), RevisionKind: kinds.ByResource(kind.ControllerRevisions),
				Refused: refused,
			})
		},
	}
}

func daemonSetSelector(obj change.Object) *metav1.LabelSelector {
	return obj.(*appsv1.DaemonSet).Spec.Selector
}

// concernsDaemons reports whether a write changes where daemons run: it is not one of the
// many by which a node tells how it is.
func concernsDaemons(ev change.Event) bool {
	if ev.Op != change.Update || ev.Prev == nil {
		return true
	}
	node, prev := ev.Object.(*corev1.Node), ev.Prev.(*corev1.Node)
	return !maps.Equal(node.Labels, prev.Labels) || !slices.EqualFunc(node.Spec.Taints, prev.Spec.Taints, sameTaint)
}

func sameTaint(a, b corev1.Taint) bool { return a.MatchTaint(&b) && a.Value == b.Value }

// revisionsOf returns the revisions that owner controls, and those of its namespace that
// have no controller.
func revisionsOf(view change.View, owner change.Object) []*appsv1.ControllerRevision {
	return ownOf[*appsv1.ControllerRevision](view, kind.ControllerRevisions, owner)
}
