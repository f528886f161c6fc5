package daemonset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sampan-batch/sampan/internal/podset"
)

// roll replaces pods of older templates, as many at a time as the strategy allows.
func (p *plan) roll(now time.Time, c census, r record) {
	if c.set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return
	}
	unavailable, surge := allowances(c.set, c.wanted())
	u := update{now: now, census: c, record: r, plan: p}
	if surge > 0 {
		u.surge(surge)
	} else {
		u.replace(unavailable)
	}
}

// allowances are how many nodes may be without an available pod, and how many may have two
// at a time. One of them is at least one.
func allowances(ds *appsv1.DaemonSet, nodes int) (unavailable, surge int) {
	unavailable, surge = scaled(maxUnavailable(ds), nodes), scaled(maxSurge(ds), nodes)
	if unavailable == 0 && surge == 0 {
		unavailable = 1
	}
	return unavailable, surge
}

// surges reports whether a node may have two pods.
func surges(ds *appsv1.DaemonSet) bool { return scaled(maxSurge(ds), 1) > 0 }

func maxSurge(ds *appsv1.DaemonSet) *intstr.IntOrString {
	if r := ds.Spec.UpdateStrategy.RollingUpdate; r != nil && ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		return r.MaxSurge
	}
	return nil
}

func maxUnavailable(ds *appsv1.DaemonSet) *intstr.IntOrString {
	if r := ds.Spec.UpdateStrategy.RollingUpdate; r != nil {
		return r.MaxUnavailable
	}
	return nil
}

// scaled is a number, or a percentage of nodes, rounded up; validation lets nothing else
// pass.
func scaled(value *intstr.IntOrString, nodes int) int {
	if value == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(value, nodes, true)
	if err != nil {
		return 0
	}
	return n
}

// update is a look at all nodes for pods to replace. It adds to plan.
type update struct {
	now time.Time
	census
	record
	*plan
}

// nodes are the names of the nodes to look at: those that are wanted, and those that have
// pods.
func (u *update) nodes() []string {
	var names []string
	seen := map[string]bool{}
	for _, h := range u.hosts {
		if h.wanted || len(u.on[h.node.Name]) > 0 {
			names = append(names, h.node.Name)
			seen[h.node.Name] = true
		}
	}
	for _, pod := range u.pods { // of nodes that are gone
		if name := nodeOf(pod); len(u.on[name]) > 0 && !seen[name] {
			names = append(names, name)
			seen[name] = true
		}
	}
	return names
}

// pair returns the pods of a node of the current revision and of another. ok is false if
// there are more of a kind: manage has to see to that first.
func (u *update) pair(node string) (present, former *corev1.Pod, ok bool) {
	for _, pod := range u.on[node] {
		slot := &former
		if u.of(pod) {
			slot = &present
		}
		switch {
		case pod.DeletionTimestamp != nil:
		case *slot != nil:
			return nil, nil, false
		default:
			*slot = pod
		}
	}
	return present, former, true
}

func (u *update) available(pod *corev1.Pod) bool {
	available, at := podset.Available(pod, u.set.Spec.MinReadySeconds, u.now)
	u.wake(at)
	return available
}

// replace deletes pods of another revision: those that are of no use at once, others as
// long as not too many nodes are without one that is available.
func (u *update) replace(allowed int) {
	missing := 0
	var useless, candidates []*corev1.Pod
	for _, node := range u.nodes() {
		present, former, ok := u.pair(node)
		switch {
		case !ok, (present == nil) == (former == nil):
			missing++
		case present != nil:
			if !u.available(present) {
				missing++
			}
		case !u.available(former):
			useless = append(useless, former)
			missing++
		default:
			candidates = append(candidates, former)
		}
	}
	n := min(max(allowed-missing, 0), len(candidates))
	u.remove = append(append(u.remove, useless...), candidates[:n]...)
}

// surge creates pods of the current revision beside others, and deletes the others once
// these are available.
func (u *update) surge(allowed int) {
	var urgent, candidates []string // nodes
	var misplaced []*corev1.Pod     // that serve, on nodes that are not wanted any more
	surging, serving := 0, 0
	for _, node := range u.nodes() {
		present, former, ok := u.pair(node)
		if !ok {
			surging++
			continue
		}
		serves := former != nil && u.available(former)
		if serves || former == nil && present != nil && u.available(present) {
			serving++
		}
		wanted := u.host(node).wanted
		switch {
		case former == nil:
		case present != nil && u.available(present):
			u.remove = append(u.remove, former)
		case present != nil:
			surging++
		case !wanted && serves:
			misplaced = append(misplaced, former)
		case !wanted:
			u.remove = append(u.remove, former)
		case serves:
			candidates = append(candidates, node)
		default:
			urgent = append(urgent, node)
		}
	}
	// Where nodes are not wanted any more, their pods serve until others do.
	u.remove = append(u.remove, misplaced[:min(max(serving-u.wanted(), 0), len(misplaced))]...)
	u.start = append(append(u.start, urgent...), candidates[:min(max(allowed-surging, 0), len(candidates))]...)
}
