package control

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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
				// One that is new is looked at with the next change of something else, as in
				// Kubernetes: whoever has made it may not be done.
				if ev.Op != change.Create {
					controllersOf(k, ev, add)
				}
			case kind.PersistentVolumeClaims:
				if claimMatters(ev) {
					claimSets(view, k, ev.Key, add)
				}
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

// claimMatters reports whether a StatefulSet looks at what was written of a claim: whether it
// is there, goes, and whose it is. A pod of which a claim is about to go waits for that, and
// no write of another object tells when it has gone.
func claimMatters(ev change.Event) bool {
	return ev.Op != change.Update || ev.Prev == nil ||
		ev.Prev.GetDeletionTimestamp().IsZero() != ev.Object.GetDeletionTimestamp().IsZero() ||
		!equality.Semantic.DeepEqual(ev.Prev.GetOwnerReferences(), ev.Object.GetOwnerReferences())
}

// claimSets adds the StatefulSets that have a claim in their templates. Its name says which
// these can be: it is the template's, the set's and the ordinal, with dashes between, and
// maybe within.
func claimSets(view change.View, k *kind.Kind, key change.Key, add func(change.Key)) {
	name := key.Name[:max(strings.LastIndexByte(key.Name, '-'), 0)]
	for i := range len(name) {
		if name[i] != '-' {
			continue
		}
		template := name[:i]
		set := at[*appsv1.StatefulSet](view, k.Resource, key.Namespace, name[i+1:])
		if set != nil && slices.ContainsFunc(set.Spec.VolumeClaimTemplates, func(c corev1.PersistentVolumeClaim) bool { return c.Name == template }) {
			add(k.KeyOf(set))
		}
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
