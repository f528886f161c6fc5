// Package sweep is the core that cleans up: dependents whose owners are gone,
// finished Jobs past their time to live, what a terminating namespace contains,
// pods that are deleted before a node has them, pods of nodes that do not exist, and
// terminated pods beyond the number worth keeping. It follows Kubernetes' garbage collector,
// TTL-after-finished, namespace and pod GC controllers.
//
// Every function is pure. Where a sweep is large it does a part and asks to be
// woken at once, so that it never holds up other commits.
package sweep

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// batch bounds the writes of one Set.
const batch = 500

// Item is an object with the row of its kind.
type Item struct {
	Kind   *kind.Kind
	Object change.Object
}

func (i Item) key() change.Key { return i.Kind.KeyOf(i.Object) }

func (i Item) rev() uint64 { return change.RevOf(i.Object) }

// update adds the replacement of item by next to set; it goes, if nothing holds it
// any more.
func update(set *change.Set, item Item, next change.Object) {
	set.Writes = append(set.Writes, item.Kind.Settle(change.Write{
		Op: change.Update, Key: item.key(), Rev: item.rev(), Object: next,
	}))
}

// remove adds the deletion of item to set. Background lets it go at once and
// leaves its own dependents to be found ownerless; foreground keeps it until
// they are gone.
func remove(set *change.Set, item Item, now time.Time, foreground bool) {
	obj := item.Object
	if foreground && obj.GetDeletionTimestamp() == nil {
		obj = obj.DeepCopyObject().(change.Object)
		obj.SetFinalizers(with(obj.GetFinalizers(), metav1.FinalizerDeleteDependents))
	}
	if w, ok := item.Kind.Removal(obj, item.rev(), now, nil); ok {
		set.Writes = append(set.Writes, w)
	}
}

// release adds an update of item without the finalizer, changed by edit first.
func release(set *change.Set, item Item, finalizer string, edit func(change.Object)) {
	next := item.Object.DeepCopyObject().(change.Object)
	next.SetFinalizers(without(next.GetFinalizers(), finalizer))
	if edit != nil {
		edit(next)
	}
	update(set, item, next)
}

func has(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func with(list []string, s string) []string {
	if has(list, s) {
		return list
	}
	return append(append([]string(nil), list...), s)
}

func without(list []string, s string) []string {
	var kept []string
	for _, v := range list {
		if v != s {
			kept = append(kept, v)
		}
	}
	return kept
}

// names reports whether obj names uid as an owner, and whether it blocks that
// owner's foreground deletion.
func names(obj metav1.Object, uid types.UID) (owned, blocks bool) {
	for _, ref := range obj.GetOwnerReferences() {
		if ref.UID == uid {
			return true, ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
		}
	}
	return false, false
}
