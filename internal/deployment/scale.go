package deployment

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// resized reports whether the Deployment's size is another than the one from which those of
// its ReplicaSets were made. What is not shared out in proportion is left to the rollout:
// Kubernetes does nothing any more about a Deployment that has come to be recreated while
// several of its ReplicaSets had pods, and is scaled then.
func (d *decision) resized() bool {
	if !d.rolls() && d.onlyOne() == nil && !d.saturated() {
		return false
	}
	for _, s := range active(d.all()) {
		if desired, ok := notedSize(s, kind.DeploymentDesiredReplicas); ok && desired != d.want() {
			return true
		}
	}
	return false
}

// scale brings the ReplicaSets to the Deployment's size. Several that have pods keep their
// proportion: to scale only the new one up, or the old ones down, would hasten a rollout
// whose new pods may not work.
func (d *decision) scale() {
	if one := d.onlyOne(); one != nil {
		if !d.resize(one, d.want()) && d.resized() {
			d.noteSize(one) // somebody else was faster: this is no other size any more
		}
		return
	}
	if d.saturated() {
		for _, s := range active(d.old) {
			d.resize(s, 0)
		}
		return
	}
	if d.rolls() {
		d.scaleProportionally()
	}
}

// onlyOne returns the ReplicaSet that has pods if there is but one, and the newest if there
// is none; nil if there are several.
func (d *decision) onlyOne() *replicaSet {
	switch sets := active(d.all()); {
	case len(sets) == 1:
		return sets[0]
	case len(sets) > 1:
		return nil
	case d.fresh != nil:
		return d.fresh
	case len(d.old) > 0:
		return d.old[len(d.old)-1]
	}
	return nil
}

// saturated reports whether the new ReplicaSet has all pods that the Deployment wants.
func (d *decision) saturated() bool {
	if d.fresh == nil {
		return false
	}
	desired, ok := notedSize(d.fresh, kind.DeploymentDesiredReplicas)
	return ok && desired == d.want() && d.fresh.size() == d.want() && d.fresh.available() == d.want()
}

// scaleProportionally shares what is to be added or taken away among the ReplicaSets that
// have pods, from the largest down. Of those that are as large the newer come first when
// pods are added, the older when they are taken away.
func (d *decision) scaleProportionally() {
	sets := active(d.all())
	most := 0
	if d.want() > 0 {
		most = int(d.want() + d.surge())
	}
	add := most - total(sets)
	slices.SortFunc(sets, func(a, b *replicaSet) int {
		older := olderFirst(a, b)
		if add > 0 {
			older = -older
		}
		return cmp.Or(cmp.Compare(b.size(), a.size()), older)
	})
	sizes := make([]int, len(sets))
	left := add
	for i, s := range sets {
		share := d.share(s, add, left)
		sizes[i] = int(s.size()) + share
		left -= share
	}
	if len(sets) > 0 && add != 0 {
		sizes[0] = max(sizes[0]+left, 0) // what rounding has left over
	}
	for i, s := range sets {
		d.resize(s, int32(sizes[i]))
		d.noteSize(s)
	}
}

// share is how much of what is to be added, or taken away, falls to a ReplicaSet: no more
// than what is left.
func (d *decision) share(s *replicaSet, add, left int) int {
	switch {
	case left == 0:
		return 0
	case add > 0:
		return min(d.fraction(s), left)
	}
	return max(d.fraction(s), left)
}

// fraction is how much a ReplicaSet would grow with the Deployment. What it had before is
// in an annotation, and may be anything.
func (d *decision) fraction(s *replicaSet) int {
	if d.want() == 0 {
		return -int(s.size())
	}
	before, ok := notedSize(s, kind.DeploymentMaxReplicas)
	if !ok || before == 0 {
		if before = d.Deployment.Status.Replicas; before == 0 {
			return 0
		}
	}
	size := float64(s.size()) * float64(d.want()+d.surge()) / float64(before)
	return int(min(math.Round(size), math.MaxInt32)) - int(s.size())
}

// resize gives a ReplicaSet another size. It reports whether it had another.
func (d *decision) resize(s *replicaSet, size int32) bool {
	from := s.size()
	if from == size {
		return false
	}
	s.edit().Spec.Replicas = &size
	d.noteSize(s)
	direction := "up"
	if size < from {
		direction = "down"
	}
	d.tell(corev1.EventTypeNormal, reason.ScalingReplicaSet, fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, s.next.Name, from, size))
	return true
}

// total is how many pods sets are to have together.
func total(sets []*replicaSet) (n int) {
	for _, s := range sets {
		n += int(s.size())
	}
	return n
}
