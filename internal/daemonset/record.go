package daemonset

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/history"
	"github.com/sampan-batch/sampan/internal/podset"
)

// record is the revisions of the set.
type record struct {
	book *history.Book
	hash string // what pods of the current revision have in their label
	// renamed has, for the hash of each revision that was found to be the current one over
	// again, the hash of the one that stays.
	renamed    map[string]string
	generation string // of the template, as an older label of pods counts it; "" if that is not known
}

const hashLabel = appsv1.DefaultDaemonSetUniqueLabelKey

// recordOf brings the revisions up to date with the template. free is false if the name of
// a new one is taken.
func recordOf(s State, c census) (r record, free bool) {
	r = record{book: history.Open(c.owner, s.Revisions), generation: generationOf(s.Set)}
	patch := history.Patch(&s.Set.Spec.Template)
	var current, old []*appsv1.ControllerRevision
	for _, revision := range r.book.Revisions() {
		if _, labelled := revision.Labels[hashLabel]; !labelled {
			revision = r.book.Edit(revision, func(next *appsv1.ControllerRevision) {
				if next.Labels == nil {
					next.Labels = make(map[string]string, 1)
				}
				next.Labels[hashLabel] = next.Name
			})
		}
		if history.Keeps(revision, patch) {
			current = append(current, revision)
		} else {
			old = append(old, revision)
		}
	}
	free = true
	if number := history.Next(old); len(current) == 0 {
		free = r.begin(s, patch, number)
	} else {
		r.dedup(current, number)
	}
	r.forget(s, c, old)
	return r, free
}

// begin enters a revision of the present template; it reports false if another has its
// name.
func (r *record) begin(s State, patch []byte, number int64) (free bool) {
	r.hash = podset.Hash(&s.Set.Spec.Template, s.Set.Status.CollisionCount)
	name := s.Set.Name + "-" + r.hash
	if there := s.Revision(name); there != nil {
		r.hash = there.Labels[hashLabel]
		return history.Keeps(there, patch)
	}
	r.book.New(name, patch, number, hashLabel, r.hash)
	return true
}

// dedup keeps the newest of the revisions of the present template, under a number that is
// higher than those before.
func (r *record) dedup(current []*appsv1.ControllerRevision, number int64) {
	last := len(current) - 1
	r.hash = current[last].Labels[hashLabel]
	if current[last].Revision < number {
		r.book.Renumber(current[last], number)
	}
	for _, again := range current[:last] {
		if r.renamed == nil {
			r.renamed = make(map[string]string)
		}
		r.renamed[again.Labels[hashLabel]] = r.hash
		r.book.Remove(again)
	}
}

// forget lets the oldest revisions go that are beyond the limit and that no pod is of.
func (r *record) forget(s State, c census, old []*appsv1.ControllerRevision) {
	limit := s.Set.Spec.RevisionHistoryLimit
	if limit == nil {
		return
	}
	excess := len(old) - int(*limit)
	live := make(map[string]bool)
	for _, pod := range c.pods {
		live[pod.Labels[hashLabel]] = true
	}
	for _, revision := range old {
		if excess > 0 && !live[revision.Labels[hashLabel]] {
			r.book.Remove(revision)
			excess--
		}
	}
}

// of reports whether the pod is of the current revision.
func (r *record) of(pod *corev1.Pod) bool {
	hash := pod.Labels[hashLabel]
	if to, renamed := r.renamed[hash]; renamed {
		hash = to
	}
	return hash != "" && hash == r.hash ||
		r.generation != "" && pod.Labels[generationLabel] == r.generation
}

// generationLabel has the generation of a pod's template, as it was counted before there
// were revisions. Kubernetes still writes it.
const generationLabel = "pod-template-generation"

func generationOf(ds *appsv1.DaemonSet) string {
	n, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
