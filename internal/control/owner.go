package control

import (
	"iter"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// ownerController cleans up along owner references, in both directions: an
// owner whose deletion waits for its dependents, and a dependent whose owners
// are gone. Its key is the object.
func ownerController(kinds *kind.Kinds) Controller {
	return Controller{
		Name: "owner",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			if ev.Op == change.Delete {
				for key := range view.Owned(ev.Object.GetUID()) {
					add(key)
				}
			} else if cleansUp(kinds, ev) {
				add(ev.Key)
			}
			// An owner that waits for this object, or that is waited for.
			refs := ev.Object.GetOwnerReferences()
			if ev.Prev != nil {
				refs = slices.Concat(refs, ev.Prev.GetOwnerReferences())
			}
			for _, ref := range refs {
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
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			item := sweep.Item{Kind: kinds.ByResource(key.Resource), Object: obj}
			set := sweep.Dependents(now, item, owned(view, kinds, obj.GetUID()), func(of change.Object) []sweep.Owner { return owners(view, kinds, of) })
			if len(set.Writes) > 0 {
				return set
			}
			return sweep.Dependent(now, item, owners(view, kinds, obj))
		},
	}
}

// cleansUp reports whether the written object itself may have to be cleaned up:
// it is new and has owners, lost one, waits for a Job without having one, or is
// being deleted.
func cleansUp(kinds *kind.Kinds, ev change.Event) bool {
	obj := ev.Object
	switch {
	case obj.GetDeletionTimestamp() != nil:
		return len(obj.GetFinalizers()) > 0
	case metav1.GetControllerOfNoCopy(obj) == nil && awaitsCount(kinds, ev):
		return true
	case ev.Op == change.Create:
		return len(obj.GetOwnerReferences()) > 0
	default:
		return ev.Prev != nil && len(ev.Prev.GetOwnerReferences()) != len(obj.GetOwnerReferences())
	}
}

// awaitsCount reports whether the written object waits for its controller to count it.
func awaitsCount(kinds *kind.Kinds, ev change.Event) bool {
	finalizers := ev.Object.GetFinalizers()
	if len(finalizers) == 0 {
		return false
	}
	by := kinds.ByResource(ev.Key.Resource).Dependents.Tracked
	return by != nil && slices.Contains(finalizers, by.Finalizer)
}

func waits(view change.View, key change.Key) bool {
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

// owned yields the objects that name uid as their owner.
func owned(view change.View, kinds *kind.Kinds, uid types.UID) iter.Seq[sweep.Item] {
	return func(yield func(sweep.Item) bool) {
		for key, obj := range view.Owned(uid) {
			if !yield(sweep.Item{Kind: kinds.ByResource(key.Resource), Object: obj}) {
				return
			}
		}
	}
}

// owners looks up what obj's references name.
func owners(view change.View, kinds *kind.Kinds, obj change.Object) []sweep.Owner {
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
