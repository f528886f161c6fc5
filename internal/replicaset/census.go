package replicaset

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// census is the set's pods. One that has ended is nobody's concern any more: another is
// made in its place, and it stays as it is.
type census struct {
	flavor
	set         *appsv1.ReplicaSet
	owner       podset.Owner
	active      []*corev1.Pod // by name
	adopted     []*corev1.Pod // of the active ones, those that have no owner yet
	unmatched   []*corev1.Pod // are the set's, but match its selector no longer
	terminating []*corev1.Pod // are being deleted, and have not ended
}

func takeCensus(f flavor, set *appsv1.ReplicaSet, pods []*corev1.Pod) census {
	c := census{flavor: f, set: set, owner: podset.Owner{
		Object: set, Kind: f.gvk, Selector: set.Spec.Selector, Template: &set.Spec.Template,
	}}
	claim := c.owner.Claims()
	for _, pod := range pods {
		if kind.PodEnded(pod) {
			continue
		}
		mine := claim(pod)
		if pod.DeletionTimestamp != nil {
			if mine == podset.Mine {
				c.terminating = append(c.terminating, pod)
			}
			continue
		}
		switch mine {
		case podset.Mine:
			c.active = append(c.active, pod)
		case podset.Adoptable:
			c.active = append(c.active, pod)
			c.adopted = append(c.adopted, pod)
		case podset.Unmatched:
			if set.DeletionTimestamp == nil {
				c.unmatched = append(c.unmatched, pod)
			}
		}
	}
	// The order in which pods were listed must not show.
	for _, list := range [][]*corev1.Pod{c.active, c.adopted, c.unmatched} {
		slices.SortFunc(list, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	}
	return c
}
