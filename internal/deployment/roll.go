package deployment

import (
	"math"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// want is how many pods the Deployment wants.
func (d *decision) want() int32 { return ptr.Deref(d.next.Spec.Replicas, 1) }

func (d *decision) rolls() bool {
	return d.next.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType
}

// surge is how many pods more than it wants the Deployment may have during a rollout.
func (d *decision) surge() int32 {
	surge, _ := d.allowances()
	return surge
}

// mayMiss is how many of those that it wants may be missing.
func (d *decision) mayMiss() int32 {
	_, missing := d.allowances()
	return min(missing, d.want())
}

// allowances resolves both together: one of them is at least one, or a rollout would not
// get on; with the surge there are no more pods than can be counted.
func (d *decision) allowances() (surge, missing int32) {
	if !d.rolls() {
		return 0, 0
	}
	var r appsv1.RollingUpdateDeployment
	if d.next.Spec.Strategy.RollingUpdate != nil {
		r = *d.next.Spec.Strategy.RollingUpdate
	}
	surge, missing = scaled(r.MaxSurge, d.want(), true), scaled(r.MaxUnavailable, d.want(), false)
	if surge == 0 && missing == 0 {
		missing = 1
	}
	return min(surge, math.MaxInt32-d.want()), missing
}

// scaled is a number, or a percentage of n; validation lets nothing else pass.
func scaled(value *intstr.IntOrString, n int32, up bool) int32 {
	if value == nil {
		return 0
	}
	v, err := intstr.GetScaledValueFromIntOrPercent(value, int(n), up)
	if err != nil {
		return 0
	}
	return int32(min(v, math.MaxInt32))
}

// roll takes the next step of a rolling update: the new ReplicaSet up as far as the surge
// allows, or else the old ones down as far as enough pods are available.
func (d *decision) roll() {
	if !d.begin() {
		return
	}
	if !d.growFresh() && !d.shrinkOld() && d.complete(d.Deployment.Status) {
		d.forget()
	}
	d.report()
}

// growFresh brings the new ReplicaSet as near to the Deployment's size as may be.
func (d *decision) growFresh() bool { return d.resize(d.fresh, d.freshSize()) }

// freshSize is how large the new ReplicaSet may be now.
func (d *decision) freshSize() int32 {
	size, want := d.fresh.size(), d.want()
	if !d.rolls() || size >= want {
		return want
	}
	room := int(want + d.surge())
	for _, s := range d.all() {
		room -= int(s.load())
	}
	if room <= 0 {
		return size
	}
	return size + int32(min(room, int(want-size)))
}

// load is how many pods the set has, or will have: one that is to have fewer has not deleted
// the others yet, and to make new ones before it has would be more than the surge. One that
// is being deleted does not follow any more.
func (s *replicaSet) load() int32 {
	if s.next.DeletionTimestamp != nil {
		return s.size()
	}
	return max(s.size(), s.next.Status.Replicas)
}

// shrinkOld scales the old ReplicaSets down, first by the pods that do not serve anyway. It
// reports whether it did.
func (d *decision) shrinkOld() bool {
	old := active(d.old)
	if len(old) == 0 {
		return false
	}
	least := d.want() - d.mayMiss()
	unavailable := d.fresh.size() - d.fresh.available()
	budget := total(d.all()) - int(least) - int(unavailable)
	if budget <= 0 {
		return false
	}
	cleaned, known := d.cleanUp(old, budget)
	if !known {
		return cleaned
	}
	spare := int(d.fresh.available()) - int(least)
	for _, s := range old {
		spare += int(s.available())
	}
	shrunk := false
	for _, s := range old {
		if n := min(int(s.size()), spare); n > 0 {
			d.resize(s, s.size()-int32(n))
			spare -= n
			shrunk = true
		}
	}
	return cleaned || shrunk
}

// cleanUp scales old ReplicaSets down by up to budget pods that are not available. known is
// false if a set tells of more than it is to have: it has not followed its last change yet,
// and nothing can be said of it before.
func (d *decision) cleanUp(old []*replicaSet, budget int) (cleaned, known bool) {
	for _, s := range old {
		idle := s.size() - s.available()
		switch {
		case budget <= 0:
			return cleaned, true
		case idle < 0:
			return cleaned, false
		case idle == 0:
			continue
		}
		n := min(budget, int(idle))
		d.resize(s, s.size()-int32(n))
		budget -= n
		cleaned = true
	}
	return cleaned, true
}

// recreate takes the next step where no pod of another template may run beside a new one:
// all old ones down, and when their pods are gone the new one up.
func (d *decision) recreate() {
	d.syncRevision()
	stopped := false
	for _, s := range active(d.old) {
		d.resize(s, 0)
		stopped = true
	}
	if stopped || d.oldPodsRun() {
		d.report()
		return
	}
	if !d.begin() {
		return
	}
	d.resize(d.fresh, d.want())
	if d.complete(d.Deployment.Status) {
		d.forget()
	}
	d.report()
}

// oldPodsRun reports whether a pod of another template is left that has not ended.
func (d *decision) oldPodsRun() bool {
	for _, s := range d.old {
		if s.next.Status.Replicas > 0 {
			return true
		}
		for _, pod := range d.Pods(s.next.UID) {
			if !kind.PodEnded(pod) {
				return true
			}
		}
	}
	return false
}
