package control

import (
	"errors"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/replicaset"
)

// replicaSetController runs ReplicaSets.
func replicaSetController(kinds *kind.Kinds) Controller {
	return replicasController(kinds, kinds.ByResource(kind.ReplicaSets), replicaSetSelector)
}

// replicationController runs ReplicationControllers.
func replicationController(kinds *kind.Kinds) Controller {
	return replicasController(kinds, kinds.ByResource(kind.ReplicationControllers), func(obj change.Object) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: obj.(*corev1.ReplicationController).Spec.Selector}
	})
}

// replicasController runs the sets of kind k.
func replicasController(kinds *kind.Kinds, k *kind.Kind, selectorOf func(change.Object) *metav1.LabelSelector) Controller {
	podKind := kinds.ByResource(kind.Pods)
	return Controller{
		Name: k.Singular,
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case k.Resource:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.Pods:
				podOwners(view, k, selectorOf, ev, add)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			s := replicaset.State{
				Set: obj, Pods: podsOf(view, obj), PodKind: podKind, Refused: refused,
				Related: func() []*corev1.Pod { return relatedPods(view, k, selectorOf, obj) },
			}
			var refusal *change.Refusal
			if errors.As(refused, &refusal) {
				s.Refused, s.Room = refusal.Err, refusal.Taken
			}
			return replicaset.Decide(now, s)
		},
	}
}

func replicaSetSelector(obj change.Object) *metav1.LabelSelector {
	return obj.(*appsv1.ReplicaSet).Spec.Selector
}

// relatedPods returns the pods that the selectors match of all sets that have the same
// controller as this one, or of this one if it has none.
func relatedPods(view change.View, k *kind.Kind, selectorOf func(change.Object) *metav1.LabelSelector, set change.Object) []*corev1.Pod {
	alike := []change.Object{set}
	if ref := metav1.GetControllerOfNoCopy(set); ref != nil {
		alike = alike[:0]
		for obj := range view.Index(k.Resource, kind.Own(ref.UID)) {
			alike = append(alike, obj)
		}
	}
	var selectors []labels.Selector
	for _, obj := range alike {
		if selector, err := metav1.LabelSelectorAsSelector(selectorOf(obj)); err == nil {
			selectors = append(selectors, selector)
		}
	}
	var related []*corev1.Pod
	for obj := range view.List(kind.Pods, set.GetNamespace()) {
		if slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(obj.GetLabels())) }) {
			related = append(related, obj.(*corev1.Pod))
		}
	}
	return related
}
