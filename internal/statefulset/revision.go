package statefulset

import (
	"hash/fnv"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/history"
	"github.com/sampan-batch/sampan/internal/podset"
)

// hashLabel has the hash of a revision. Pods have its whole name in theirs.
const hashLabel = "controller.kubernetes.io/hash"

// nameLimit is how much of the set's name is in that of a revision.
const nameLimit = 223

// findRevisions finds the revision of the present template, or begins one, and the one
// that pods were of before. It reports false if there is none, and none may begin.
func (d *decision) findRevisions() bool {
	d.book = history.Open(d.owner, d.Revisions)
	all := d.book.Revisions()
	if c := d.Set.Status.CollisionCount; c != nil {
		d.collisions = *c
	}
	if i := slices.IndexFunc(all, func(r *appsv1.ControllerRevision) bool { return r.Name == d.Set.Status.CurrentRevision }); i >= 0 {
		d.current = all[i]
	}
	patch := history.Patch(&d.Set.Spec.Template)
	number := history.Next(all)
	switch same := lastThat(all, func(r *appsv1.ControllerRevision) bool { return history.Keeps(r, patch) }); {
	case same != nil && same == all[len(all)-1]:
		d.update = same
	case same != nil:
		d.update = d.book.Renumber(same, number)
		if d.current == same {
			d.current = d.update
		}
	case len(all) > 0 && d.meansTheSame(all[len(all)-1], patch):
		d.update = all[len(all)-1]
	case d.Set.DeletionTimestamp != nil:
		return false
	default:
		d.update = d.begin(patch, number)
	}
	if d.current == nil {
		d.current = d.update
	}
	d.truncate(all)
	return true
}

func lastThat(all []*appsv1.ControllerRevision, is func(*appsv1.ControllerRevision) bool) *appsv1.ControllerRevision {
	for _, r := range slices.Backward(all) {
		if is(r) {
			return r
		}
	}
	return nil
}

// meansTheSame reports whether a revision would make the present template, written
// differently: by a program that did not know yet of a field that has a default.
func (d *decision) meansTheSame(r *appsv1.ControllerRevision, patch []byte) bool {
	template, err := history.Template(r)
	if err != nil || d.SetKind.Default == nil {
		return false
	}
	set := d.Set.DeepCopy()
	set.Spec.Template = *template
	d.SetKind.Default(set)
	return string(history.Patch(&set.Spec.Template)) == string(patch)
}

// begin enters a revision of the present template, under a name that no other has.
func (d *decision) begin(patch []byte, number int64) *appsv1.ControllerRevision {
	for {
		h := fnv.New32()
		h.Write(patch)
		h.Write(strconv.AppendInt(nil, int64(d.collisions), 10))
		hash := podset.Harmless(h.Sum32())
		name := d.Set.Name[:min(len(d.Set.Name), nameLimit)] + "-" + hash
		switch there := d.Revision(name); {
		case there == nil:
			return d.book.New(name, patch, number, hashLabel, hash)
		case history.Keeps(there, patch):
			return there
		}
		d.collisions++
	}
}

// truncate lets the oldest revisions go that are beyond the limit, and that neither the
// set nor a pod is of.
func (d *decision) truncate(all []*appsv1.ControllerRevision) {
	limit := d.Set.Spec.RevisionHistoryLimit
	if limit == nil || *limit < 0 || d.Set.DeletionTimestamp != nil {
		return
	}
	live := map[string]bool{d.current.Name: true, d.update.Name: true}
	for _, pod := range d.pods {
		live[revisionOf(pod)] = true
	}
	dead := slices.DeleteFunc(slices.Clone(all), func(r *appsv1.ControllerRevision) bool { return live[r.Name] })
	for _, r := range dead[:max(0, len(dead)-int(*limit))] {
		d.book.Remove(r)
	}
}

// revisionOf is the name of the revision that a pod is of.
func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }

// templateOf is the template that a revision keeps, or the present one if it keeps none.
func (d *decision) templateOf(r *appsv1.ControllerRevision) *corev1.PodTemplateSpec {
	if r == d.update {
		return &d.Set.Spec.Template
	}
	template, err := history.Template(r)
	if err != nil {
		return &d.Set.Spec.Template
	}
	return template
}
