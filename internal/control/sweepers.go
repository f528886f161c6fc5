package control

import (
	"iter"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// ownerController cleans up along owner references, in both directions: an
// owner whose deletion waits for its dependents, and a dependent whose owners
// are gone. Its key is the object.
func ownerController(kinds *kind.Kinds) Controller {
	return Controller{
		Name: "owner",
		Dirties: func(view *store.View, ev store.Event, add func(change.Key)) {
			if ev.Op == change.Delete {
				for key := range view.Owned(ev.Object.GetUID()) {
					add(key)
				}
			} else if cleansUp(ev) {
				add(ev.Key)
			}
			// An owner that waits for this object, or that is waited for.
			for _, ref := range ev.Object.GetOwnerReferences() {
				if key, known := ownerKey(kinds, ev.Object, ref); known && waits(view, key) {
					add(key)
				}
			}
			if waitsForDependents(ev.Object) {
				for key := range view.Owned(ev.Object.GetUID()) {
					add(key)
				}
			}
		},
		Decide: func(now time.Time, view *store.View, key change.Key) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			item := sweep.Item{Key: key, Object: obj}
			set := sweep.Dependents(now, kinds.ByResource, item, view.Owned(obj.GetUID()))
			if len(set.Writes) > 0 {
				return set
			}
			return sweep.Dependent(now, kinds.ByResource, item, owners(view, kinds, obj))
		},
	}
}

// cleansUp reports whether the written object itself may have to be cleaned up:
// it is new and has owners, lost one, waits for a Job without having one, or is
// being deleted.
func cleansUp(ev store.Event) bool {
	obj := ev.Object
	switch {
	case obj.GetDeletionTimestamp() != nil:
		return len(obj.GetFinalizers()) > 0
	case metav1.GetControllerOfNoCopy(obj) == nil && slices.Contains(obj.GetFinalizers(), batchv1.JobTrackingFinalizer):
		return true
	case ev.Op == change.Create:
		return len(obj.GetOwnerReferences()) > 0
	default:
		return ev.Prev != nil && len(ev.Prev.GetOwnerReferences()) != len(obj.GetOwnerReferences())
	}
}

func waits(view *store.View, key change.Key) bool {
	owner, ok := view.Get(key)
	return ok && waitsForDependents(owner)
}

func waitsForDependents(obj change.Object) bool {
	if obj.GetDeletionTimestamp() == nil {
		return false
	}
	for _, f := range obj.GetFinalizers() {
		if f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents {
			return true
		}
	}
	return false
}

// owners looks up what obj's references name.
func owners(view *store.View, kinds *kind.Kinds, obj change.Object) []sweep.Owner {
	var all []sweep.Owner
	for _, ref := range obj.GetOwnerReferences() {
		o := sweep.Owner{Ref: ref}
		key, known := ownerKey(kinds, obj, ref)
		if found, ok := view.Get(key); known && ok && found.GetUID() == ref.UID {
			o.Object = found
		}
		o.Unknown = !known
		all = append(all, o)
	}
	return all
}

// ownerKey returns the key that a reference of obj names; known is false when
// no row serves its kind.
func ownerKey(kinds *kind.Kinds, obj metav1.Object, ref metav1.OwnerReference) (key change.Key, known bool) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return change.Key{}, false
	}
	k := kinds.ByGVK(gv.WithKind(ref.Kind))
	if k == nil {
		return change.Key{}, false
	}
	if !k.Namespaced {
		return k.Key("", ref.Name), true
	}
	return k.Key(obj.GetNamespace(), ref.Name), true
}

// expiryController deletes finished Jobs when their time to live is over.
func expiryController(kinds *kind.Kinds) Controller {
	return Controller{
		Name: "ttl-after-finished",
		Dirties: func(_ *store.View, ev store.Event, add func(change.Key)) {
			if j, ok := ev.Object.(*batchv1.Job); ok && ev.Op != change.Delete && j.Spec.TTLSecondsAfterFinished != nil {
				add(ev.Key)
			}
		},
		Decide: func(now time.Time, view *store.View, key change.Key) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return sweep.ExpiredJob(now, kinds.ByResource, sweep.Item{Key: key, Object: obj})
		},
	}
}

// namespaceController gives namespaces their default ServiceAccount, and empties
// those that are being deleted.
func namespaceController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(namespaces)
	return Controller{
		Name: "namespace",
		Dirties: func(view *store.View, ev store.Event, add func(change.Key)) {
			switch {
			case ev.Key.Resource == namespaces:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case ev.Key.Resource == serviceAccounts && ev.Op == change.Delete:
				add(k.Key("", ev.Key.Namespace))
			case ev.Op == change.Delete && ev.Key.Namespace != "":
				ns, ok := view.Get(k.Key("", ev.Key.Namespace))
				if ok && ns.GetDeletionTimestamp() != nil {
					add(k.Key("", ev.Key.Namespace))
				}
			}
		},
		Decide: func(now time.Time, view *store.View, key change.Key) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			_, account := view.Get(change.Key{Resource: serviceAccounts, Namespace: key.Name, Name: "default"})
			return sweep.Namespace(now, kinds.ByResource, sweep.Item{Key: key, Object: obj}, contents(view, kinds, key.Name), account)
		},
	}
}

// contents yields everything in a namespace.
func contents(view *store.View, kinds *kind.Kinds, namespace string) iter.Seq2[change.Key, change.Object] {
	return func(yield func(change.Key, change.Object) bool) {
		for _, k := range kinds.All() {
			if !k.Namespaced {
				continue
			}
			for obj := range view.List(k.GR().String(), namespace) {
				if !yield(k.KeyOf(obj), obj) {
					return
				}
			}
		}
	}
}

// unscheduledController ends pods that are deleted before a node has them.
func unscheduledController() Controller {
	return Controller{
		Name: "unscheduled",
		Dirties: func(_ *store.View, ev store.Event, add func(change.Key)) {
			pod, ok := ev.Object.(*corev1.Pod)
			if ok && ev.Op != change.Delete && pod.DeletionTimestamp != nil && pod.Spec.NodeName == "" {
				add(ev.Key)
			}
		},
		Decide: func(_ time.Time, view *store.View, key change.Key) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return sweep.UnscheduledPod(sweep.Item{Key: key, Object: obj})
		},
	}
}

// podController keeps the number of terminated pods bounded. Each look is at all
// pods, so that one at each end would be too many. Kubernetes looks every 20 s; here
// far more pods can end in that time.
func podController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(pods)
	all := change.Key{Resource: "podgc"}
	return Controller{
		Name:  "pod-gc",
		Every: time.Second,
		Dirties: func(view *store.View, ev store.Event, add func(change.Key)) {
			pod, ok := ev.Object.(*corev1.Pod)
			if ok && ev.Op == change.Update && kind.PodEnded(pod) && view.Len(pods) > sweep.TerminatedPodThreshold {
				add(all)
			}
		},
		Decide: func(now time.Time, view *store.View, _ change.Key) change.Set {
			each := func(yield func(change.Key, change.Object) bool) {
				for obj := range view.List(pods, "") {
					if !yield(k.KeyOf(obj), obj) {
						return
					}
				}
			}
			return sweep.TerminatedPods(now, kinds.ByResource, each, sweep.TerminatedPodThreshold)
		},
	}
}
