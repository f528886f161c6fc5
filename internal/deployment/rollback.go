package deployment

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/reason"
)

// rollbackTo returns the revision to which an older client has asked to go back, by an
// annotation; 0 is the last one before. (kubectl puts the template in place itself.)
func (d *decision) rollbackTo() (revision int64, asked bool) {
	text := d.next.Annotations[appsv1.DeprecatedRollbackTo]
	revision, err := strconv.ParseInt(text, 10, 64)
	return revision, err == nil
}

// rollBack puts the template of a revision in the place of the present one. In any case
// the wish is fulfilled then.
func (d *decision) rollBack(revision int64) {
	delete(d.next.Annotations, appsv1.DeprecatedRollbackTo)
	if revision == 0 {
		if revision = d.lastRevision(); revision == 0 {
			d.tell(corev1.EventTypeWarning, reason.DeploymentRollbackRevisionNotFound, "Unable to find last revision.")
			return
		}
	}
	for _, s := range d.all() {
		if n, err := revisionOf(s.next); err != nil || n != revision {
			continue
		}
		if sameTemplate(&s.next.Spec.Template, &d.next.Spec.Template) {
			d.tell(corev1.EventTypeWarning, reason.DeploymentRollbackTemplateUnchanged,
				fmt.Sprintf("The rollback revision contains the same template as current deployment %q", d.next.Name))
			return
		}
		d.next.Spec.Template = *withoutHash(&s.next.Spec.Template)
		maps.DeleteFunc(d.next.Annotations, func(key, _ string) bool { return !isOwn(key) })
		for key, value := range s.next.Annotations {
			if !isOwn(key) {
				d.next.Annotations[key] = value
			}
		}
		d.tell(corev1.EventTypeNormal, reason.DeploymentRollback, fmt.Sprintf("Rolled back deployment %q to revision %d", d.next.Name, revision))
		return
	}
	d.tell(corev1.EventTypeWarning, reason.DeploymentRollbackRevisionNotFound, "Unable to find the revision to rollback to.")
}

// lastRevision is the second highest number; 0 if there is none.
func (d *decision) lastRevision() int64 {
	var numbers []int64
	for _, s := range d.all() {
		if n, err := revisionOf(s.next); err == nil {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) < 2 {
		return 0
	}
	slices.Sort(numbers)
	return max(numbers[len(numbers)-2], 0)
}

// forget deletes the oldest ReplicaSets beyond the limit that have no pods any more. One
// that is changed by this very decision has not said yet that it has none.
func (d *decision) forget() {
	limit := d.next.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(d.old), func(s *replicaSet) bool { return s.next.DeletionTimestamp != nil })
	slices.SortFunc(kept, func(a, b *replicaSet) int {
		n, errA := revisionOf(a.next)
		m, errB := revisionOf(b.next)
		if errA != nil || errB != nil {
			return olderFirst(a, b)
		}
		return cmp.Or(cmp.Compare(n, m), olderFirst(a, b))
	})
	for _, s := range kept[:max(0, len(kept)-int(*limit))] {
		if s.next.Status.Replicas == 0 && s.size() == 0 && s.next.Generation <= s.next.Status.ObservedGeneration && s.next == s.read {
			s.next = nil
		}
	}
	d.old = slices.DeleteFunc(d.old, func(s *replicaSet) bool {
		if s.next == nil {
			d.gone = append(d.gone, s)
		}
		return s.next == nil
	})
}
