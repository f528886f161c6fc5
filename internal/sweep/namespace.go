package sweep

import (
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
)

// Namespace decides for a namespace: one that is being deleted is emptied, and
// let go when nothing is left in it. contents yields everything in the namespace that can be read, unread the keys of the
// rest, which only a newer program can remove: the namespace waits for it.
func Namespace(now time.Time, item Item, contents iter.Seq[Item], unread iter.Seq[change.Key]) change.Set {
	ns := item.Object.(*corev1.Namespace)
	var set change.Set
	if ns.DeletionTimestamp == nil {
		return set
	}
	left := map[change.Resource]int{}
	for in := range contents {
		left[in.Kind.Resource]++
		if len(set.Writes) == batch {
			set.Wake(now)
			return set
		}
		if in.Object.GetDeletionTimestamp() == nil {
			remove(&set, in, now, false)
		}
	}
	for key := range unread {
		left[key.Resource]++
	}
	if len(left) == 0 {
		release(&set, item, "", func(next change.Object) {
			spec := &next.(*corev1.Namespace).Spec
			spec.Finalizers = slices.DeleteFunc(spec.Finalizers, func(f corev1.FinalizerName) bool {
				return f == corev1.FinalizerKubernetes
			})
		})
		return set
	}
	if len(set.Writes) == 0 {
		describe(&set, now, item, left)
	}
	return set
}

// describe says in the namespace's conditions what its deletion waits for.
func describe(set *change.Set, now time.Time, item Item, left map[change.Resource]int) {
	var parts []string
	for resource, n := range left {
		parts = append(parts, fmt.Sprintf("%s has %d resource instances", resource, n))
	}
	slices.Sort(parts)
	message := "Some resources are remaining: "
	for i, p := range parts {
		if i > 0 {
			message += ", "
		}
		message += p
	}
	next := item.Object.DeepCopyObject().(*corev1.Namespace)
	for i, c := range next.Status.Conditions {
		if c.Type == corev1.NamespaceContentRemaining {
			if c.Message == message {
				return
			}
			next.Status.Conditions = slices.Delete(next.Status.Conditions, i, i+1)
			break
		}
	}
	next.Status.Conditions = append(next.Status.Conditions, corev1.NamespaceCondition{
		Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue,
		Reason: "SomeResourcesRemain", Message: message, LastTransitionTime: metav1.NewTime(now),
	})
	update(set, item, next)
}
