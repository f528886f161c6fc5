// Package quota is the core that accounts for ResourceQuotas: what a set of writes adds
// to what the quotas of its namespaces count, or takes away, and whether they have room
// for it. What an object uses, which quotas count it, and the words of a refusal are
// Kubernetes' own (its evaluators, and the check of its admission plugin).
//
// The store asks Account about each set, under its lock, and commits the quotas' new
// status.used together with the set. So the sum is exact at every revision, however many
// write at a time: all that a controller has to put right is what a client has written into
// a status. Where no quota is, the answer costs one look at an empty table.
package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	quota "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
	"k8s.io/utils/clock"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Account returns the writes that keep the quotas right when writes are made to the
// state view; one of a quota that is among writes takes its place there. The error is a
// *change.Refusal when a quota has no room.
func Account(view change.View, writes []change.Write) ([]change.Write, error) {
	if view.Len(kind.ResourceQuotas) == 0 && !slices.ContainsFunc(writes, isQuota) {
		return nil, nil
	}
	var books []*book
	open := func(namespace string) *book {
		for _, b := range books {
			if b.namespace == namespace {
				return b
			}
		}
		b := newBook(view, namespace, writes)
		books = append(books, b)
		return b
	}
	if err := enter(view, writes, open); err != nil {
		return nil, err
	}
	var more []change.Write
	for i := range writes {
		if w := writes[i]; isQuota(w) && w.Op != change.Delete && !told(view, w) {
			w.Object = recounted(view, w.Object.(*corev1.ResourceQuota), writes)
			more = append(more, w)
		}
	}
	for _, b := range books {
		more = append(more, b.changes()...)
	}
	return more, nil
}

// told reports whether somebody says of a quota, in its status, that it has other limits than it has. As
// in Kubernetes it stays said, until Decide puts it right.
func told(view change.View, w change.Write) bool {
	obj, ok := view.Get(w.Key)
	if !ok || w.Op != change.Update {
		return false
	}
	old, q := obj.(*corev1.ResourceQuota), w.Object.(*corev1.ResourceQuota)
	return equality.Semantic.DeepEqual(old.Spec, q.Spec) && !quota.Equals(old.Status.Hard, q.Status.Hard) && !quota.Equals(q.Status.Hard, q.Spec.Hard)
}

// Decide has a quota counted anew whose status says that it has other limits than it has.
func Decide(k *kind.Kind, q *corev1.ResourceQuota) change.Set {
	var set change.Set
	if quota.Equals(q.Status.Hard, q.Spec.Hard) {
		return set
	}
	next := q.DeepCopy()
	next.Status.Hard = q.Spec.Hard.DeepCopy() // the store counts the rest
	set.Update(k.KeyOf(q), change.RevOf(q), next)
	return set
}

// enter has the books of the namespaces account for the writes: first for what makes
// room, for the writes happen at once.
func enter(view change.View, writes []change.Write, open func(namespace string) *book) error {
	for i := range writes {
		if w := &writes[i]; counts(w) && w.Op != change.Create {
			old, _ := view.Get(w.Key)
			if err := open(w.Key.Namespace).change(w, old); err != nil {
				return &change.Refusal{Err: err}
			}
		}
	}
	taken := 0
	for i := range writes {
		w := &writes[i]
		if w.Op != change.Create {
			continue
		}
		if counts(w) {
			if err := open(w.Key.Namespace).create(w); err != nil {
				return &change.Refusal{Err: err, Taken: taken}
			}
		}
		taken++
	}
	return nil
}

func isQuota(w change.Write) bool { return w.Key.Resource == kind.ResourceQuotas }

// counts reports whether quotas may count what is written. (Events, none does.)
func counts(w *change.Write) bool {
	return w.Key.Namespace != "" && w.Key.Resource != kind.Events
}

// aliases are names that quotas have for how many objects there are besides count/….
var aliases = map[change.Resource]corev1.ResourceName{
	kind.ConfigMaps:             corev1.ResourceConfigMaps,
	kind.ResourceQuotas:         corev1.ResourceQuotas,
	kind.ReplicationControllers: corev1.ResourceReplicationControllers,
	kind.Secrets:                corev1.ResourceSecrets,
}

// evaluatorOf returns Kubernetes' code that knows what an object of the resource uses.
func evaluatorOf(r change.Resource) quota.Evaluator {
	switch r {
	case kind.Pods:
		return core.NewPodEvaluator(nil, standing{})
	case kind.Services:
		return core.NewServiceEvaluator(nil)
	case kind.PersistentVolumeClaims:
		return core.NewPersistentVolumeClaimEvaluator(nil)
	case kind.ResourceClaims:
		return core.NewResourceClaimEvaluator(nil, nil, nil, nil)
	}
	return generic.NewObjectCountEvaluator(schema.ParseGroupResource(string(r)), nil, aliases[r])
}

// countable are the resources of which a quota with these limits counts anything, as far
// as their evaluators say.
func countable(hard corev1.ResourceList) []change.Resource {
	all := []change.Resource{kind.Pods, kind.Services, kind.PersistentVolumeClaims, kind.ResourceClaims}
	for r := range aliases {
		all = append(all, r)
	}
	for name := range hard {
		if r, is := strings.CutPrefix(string(name), "count/"); is && !slices.Contains(all, change.Resource(r)) {
			all = append(all, change.Resource(r))
		}
	}
	return all
}

// standing is a clock by which no grace period is over: what a pod uses may not depend on
// when it is asked for, or the sum of what was added were not that of what is there. (A
// pod that is being deleted counts until it has ended; Kubernetes stops to count one that
// is overdue.)
type standing struct{ clock.Clock }

func (standing) Now() time.Time { return time.Time{} }
