package statefulset

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// roll deletes pods of an older revision from the highest ordinal down, as many as may be
// missing.
func (d *decision) roll() {
	strategy := d.Set.Spec.UpdateStrategy
	if strategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return
	}
	lowest := 0
	if r := strategy.RollingUpdate; r != nil && r.Partition != nil {
		lowest = int(*r.Partition)
	}
	missing := count(d.Set) - len(d.replicas)
	for _, m := range d.replicas {
		if d.missing(m) {
			missing++
		}
	}
	budget := mayMiss(d.Set) - missing
	from, _ := slices.BinarySearchFunc(d.replicas, first(d.Set)+lowest, func(m *member, ordinal int) int { return cmp.Compare(m.ordinal, ordinal) })
	candidates := d.replicas[from:]
	if monotonic(d.Set) {
		d.replace(candidates, budget, func(m *member) bool { return !m.terminating() })
		return
	}
	// In a Parallel set, those that do not serve anyway cost nothing.
	d.replace(candidates, len(candidates), func(m *member) bool { return !d.serves(m) && !m.terminating() })
	d.replace(candidates, budget, func(m *member) bool { return !d.missing(m) })
}

// replace deletes up to n of the pods that are of another revision and are such.
func (d *decision) replace(candidates []*member, n int, such func(*member) bool) {
	for _, m := range slices.Backward(candidates) {
		if n <= 0 {
			return
		}
		if !m.stop && revisionOf(m.pod) != d.update.Name && such(m) {
			d.stop(m)
			n--
		}
	}
}

// mayMiss is how many pods may be missing during an update: at least one.
func mayMiss(set *appsv1.StatefulSet) int {
	r := set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, count(set), false)
	if err != nil { // validation lets none pass
		return 1
	}
	return max(n, 1)
}
