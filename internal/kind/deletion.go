package kind

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// Removal returns the write with which the deletion of obj begins, as a
// Kubernetes API server would take a DELETE: the object goes at once when
// nothing holds it, else it stays with a deletionTimestamp until its grace
// period is over and its finalizers are released. asked is the grace period
// that the client asked for, nil if nothing. The write has no effect (ok is
// false) when a deletion with no longer grace is already under way.
//
// The finalizers for orphan or foreground propagation are the caller's to add
// to obj (a copy) before.
func (k *Kind) Removal(obj change.Object, rev uint64, now time.Time, asked *int64) (w change.Write, ok bool) {
	key := k.KeyOf(obj)
	var grace int64
	if k.Deletion.Grace != nil {
		grace = k.Deletion.Grace(obj, asked)
	}
	if grace == 0 && !k.held(obj) {
		return change.Write{Op: change.Delete, Key: key, Rev: rev}, true
	}
	at := metav1.NewTime(now.Add(Seconds(grace)).Truncate(time.Second))
	// A later DELETE can only shorten what the first one granted.
	if obj.GetDeletionTimestamp() != nil && ptr.Deref(obj.GetDeletionGracePeriodSeconds(), 0) <= grace {
		return change.Write{}, false
	}
	next := obj.DeepCopyObject().(change.Object)
	next.SetDeletionTimestamp(&at)
	next.SetDeletionGracePeriodSeconds(&grace)
	if k.Deletion.Begin != nil {
		k.Deletion.Begin(next)
	}
	if next.GetGeneration() > 0 && obj.GetDeletionTimestamp() == nil {
		next.SetGeneration(next.GetGeneration() + 1)
	}
	return change.Write{Op: change.Update, Key: key, Rev: rev, Object: next}, true
}

// Settle returns w, a write of one of k's objects, turned into a Delete when the state
// that it writes is one that nothing holds any more: deletion has begun, the grace
// period is over and no finalizer is left. Every update goes through it that may take
// away what holds an object: those of clients, and those of the cores that release or
// end something.
func (k *Kind) Settle(w change.Write) change.Write {
	if w.Op != change.Update || w.Object.GetDeletionTimestamp() == nil {
		return w
	}
	if k.held(w.Object) || ptr.Deref(w.Object.GetDeletionGracePeriodSeconds(), 0) > 0 {
		return w
	}
	return change.Write{Op: change.Delete, Key: w.Key, Rev: w.Rev}
}

// held reports whether somebody still has to let go of obj before it may be
// removed: a finalizer, or what the row knows of.
func (k *Kind) held(obj change.Object) bool {
	return len(obj.GetFinalizers()) > 0 || k.Deletion.Held != nil && k.Deletion.Held(obj)
}
