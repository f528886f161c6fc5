package control

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/statefulset"
)

// statefulSetController runs StatefulSets.
func statefulSetController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.StatefulSets)
	return Controller{
		Name: "statefulset",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.StatefulSets:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.Pods:
				podOwners(view, k, statefulSetSelector, ev, add)
			case kind.ControllerRevisions:
				controllersOf(k, ev, add)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			set := obj.(*appsv1.StatefulSet)
			return statefulset.Decide(now, statefulset.State{
				Set: set, Pods: podsOf(view, set), Revisions: revisionsOf(view, set),
				Pod: func(name string) *corev1.Pod { return at[*corev1.Pod](view, kind.Pods, set.Namespace, name) },
				Claim: func(name string) *corev1.PersistentVolumeClaim {
					return at[*corev1.PersistentVolumeClaim](view, kind.PersistentVolumeClaims, set.Namespace, name)
				},
				Revision: func(name string) *appsv1.ControllerRevision {
					return at[*appsv1.ControllerRevision](view, kind.ControllerRevisions, set.Namespace, name)
				},
				SetKind: k, PodKind: kinds.ByResource(kind.Pods), RevisionKind: kinds.ByResource(kind.ControllerRevisions),
				Refused: refused,
			})
		},
	}
}

func statefulSetSelector(obj change.Object) *metav1.LabelSelector {
	return obj.(*appsv1.StatefulSet).Spec.Selector
}

// at returns the object of a name, nil if there is none.
func at[T change.Object](view change.View, resource change.Resource, namespace, name string) (found T) {
	if obj, ok := view.Get(resource.Key(namespace, name)); ok {
		found = obj.(T)
	}
	return found
}

// ownOf returns the objects of a resource that owner controls, and those of its namespace
// that have no controller.
func ownOf[T change.Object](view change.View, resource change.Resource, owner change.Object) (found []T) {
	for _, term := range []string{kind.Own(owner.GetUID()), kind.Stray(owner.GetNamespace())} {
		for obj := range view.Index(resource, term) {
			found = append(found, obj.(T))
		}
	}
	return found
}
