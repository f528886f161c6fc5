package sweep

import (
	"iter"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/change"
)

// Owner is an owner reference with what was found under it.
type Owner struct {
	Ref metav1.OwnerReference
	// Object is the owner, nil when no object of that name has that UID.
	Object change.Object
	// Unknown: the reference names a resource that this engine does not serve,
	// so nobody can say whether it is gone.
	Unknown bool
}

// waits reports whether the owner waits for what it owns to go.
func (o *Owner) waits() bool {
	return o.Object != nil && o.Object.GetDeletionTimestamp() != nil && has(o.Object.GetFinalizers(), metav1.FinalizerDeleteDependents)
}

// solid reports whether what it owns stays for the owner's sake.
func (o *Owner) solid() bool { return o.Unknown || o.Object != nil && !o.waits() }

// Dependents decides for an owner whose deletion waits for its dependents: in
// the foreground they are deleted first, orphaned they lose their reference.
// owners looks up all owners of one of owned.
func Dependents(now time.Time, owner Item, owned iter.Seq[Item], owners func(change.Object) []Owner) change.Set {
	var set change.Set
	if owner.Object.GetDeletionTimestamp() == nil {
		return set
	}
	switch finalizers := owner.Object.GetFinalizers(); {
	case has(finalizers, metav1.FinalizerOrphanDependents):
		orphan(&set, now, owner, owned)
	case has(finalizers, metav1.FinalizerDeleteDependents):
		foreground(&set, now, owner, owned, owners)
	}
	return set
}

func orphan(set *change.Set, now time.Time, owner Item, owned iter.Seq[Item]) {
	for item := range owned {
		if len(set.Writes) == batch {
			set.Wake(now)
			return
		}
		release(set, item, tracking(item), func(next change.Object) {
			next.SetOwnerReferences(refsWithout(next, func(ref metav1.OwnerReference) bool {
				return ref.UID == owner.Object.GetUID()
			}))
		})
	}
	release(set, owner, metav1.FinalizerOrphanDependents, nil)
}

func foreground(set *change.Set, now time.Time, owner Item, owned iter.Seq[Item], owners func(change.Object) []Owner) {
	waits := false
	for item := range owned {
		if len(set.Writes) == batch {
			set.Wake(now)
			return
		}
		if len(item.Object.GetOwnerReferences()) > 1 {
			if all := owners(item.Object); slices.ContainsFunc(all, func(o Owner) bool { return o.solid() }) {
				keep(set, item, all)
				continue
			}
		}
		_, blocks := names(item.Object, owner.Object.GetUID())
		waits = waits || blocks
		if item.Object.GetDeletionTimestamp() == nil {
			remove(set, item, now, blocks && mayOwn(item))
		}
	}
	// What was deleted in this very set is gone with it only if nothing holds
	// it; the next look, after the commit, tells.
	if !waits {
		release(set, owner, metav1.FinalizerDeleteDependents, nil)
	}
}

// keep has an object lose its references to owners that are gone, or are about to go, for the sake of
// another one.
func keep(set *change.Set, item Item, owners []Owner) {
	finalizer := ""
	drop := func(ref metav1.OwnerReference) bool {
		i := slices.IndexFunc(owners, func(o Owner) bool { return o.Ref.UID == ref.UID })
		return i >= 0 && !owners[i].solid()
	}
	if ref := metav1.GetControllerOfNoCopy(item.Object); ref == nil || drop(*ref) {
		finalizer = tracking(item)
	}
	release(set, item, finalizer, func(next change.Object) { next.SetOwnerReferences(refsWithout(next, drop)) })
}

// mayOwn reports whether item can have dependents worth waiting for. To one that has
// none, the finalizer would only cost two more writes.
func mayOwn(item Item) bool { return !item.Kind.Dependents.None }

// Dependent decides for an object with owners: it goes when all of them are
// gone, and loses its references to those that are when some remain. A pod
// without its Job is released from the Job's tracking.
func Dependent(now time.Time, item Item, owners []Owner) change.Set {
	var set change.Set
	absent, solid, waiting := 0, 0, false
	for _, o := range owners {
		switch {
		case o.solid():
			solid++
		case o.waits():
			waiting = true
		default:
			absent++
		}
	}
	stray := isStray(item, owners)
	if stray {
		item.Object = released(item)
	}
	switch {
	case item.Object.GetDeletionTimestamp() == nil && solid == 0 && (absent > 0 || waiting):
		remove(&set, item, now, waiting && mayOwn(item))
	case solid > 0 && (absent > 0 || waiting):
		keep(&set, item, owners)
	case stray:
		release(&set, item, tracking(item), nil)
	}
	return set
}

// isStray reports whether item is a pod that no Job counts any more although it
// waits to be counted. What something else than a Job controls is not ours to
// judge.
func isStray(item Item, owners []Owner) bool {
	tracked := item.Kind.Dependents.Tracked
	if tracked == nil || !has(item.Object.GetFinalizers(), tracked.Finalizer) {
		return false
	}
	for _, o := range owners {
		if o.Ref.Controller != nil && *o.Ref.Controller {
			counts := schema.FromAPIVersionAndKind(o.Ref.APIVersion, o.Ref.Kind) == tracked.By
			return counts && o.Object == nil
		}
	}
	return true
}

func released(item Item) change.Object {
	next := item.Object.DeepCopyObject().(change.Object)
	next.SetFinalizers(without(next.GetFinalizers(), tracking(item)))
	return next
}

// tracking is the finalizer that item loses together with its owner; "" names
// none.
func tracking(item Item) string {
	if tracked := item.Kind.Dependents.Tracked; tracked != nil {
		return tracked.Finalizer
	}
	return ""
}

func refsWithout(obj metav1.Object, drop func(metav1.OwnerReference) bool) []metav1.OwnerReference {
	var kept []metav1.OwnerReference
	for _, ref := range obj.GetOwnerReferences() {
		if !drop(ref) {
			kept = append(kept, ref)
		}
	}
	return kept
}
