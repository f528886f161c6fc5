package podset

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// rank is what the order of pods is made from.
type rank struct {
	pod               *corev1.Pod
	placed, phase     int
	ready             int
	cost, company     int
	since             time.Time
	restarts, sidecar int32
}

// Ranked returns active pods with those first that cost least to lose: without
// a node before with one, pending before running, not ready before ready, ready
// for a short time before long, often restarted before seldom, young before old.
func Ranked(pods []*corev1.Pod) []*corev1.Pod {
	ranks := ranksOf(pods)
	slices.SortFunc(ranks, func(a, b rank) int {
		return cmp.Or(
			a.standing(b), later(a.since, b.since), a.restarted(b),
			later(a.pod.CreationTimestamp.Time, b.pod.CreationTimestamp.Time),
			strings.Compare(a.pod.Name, b.pod.Name),
		)
	})
	return podsOf(ranks)
}

// Spread returns active pods as Ranked does, for a set whose pods are alike. Those whose
// users say that they cost less come before the others that are as ready, and then those
// on the nodes that have most of related: all pods that do the same work, these included.
// Times differ only if one is, seen from now, about twice as long ago as the other; among
// pods that do not differ chance decides, which is their uid.
func Spread(pods, related []*corev1.Pod, now time.Time) []*corev1.Pod {
	on := make(map[string]int)
	for _, pod := range related {
		if !kind.PodEnded(pod) && pod.DeletionTimestamp == nil {
			on[pod.Spec.NodeName]++
		}
	}
	ranks := ranksOf(pods)
	for i := range ranks {
		r := &ranks[i]
		r.cost, r.company = deletionCost(r.pod), on[r.pod.Spec.NodeName]
	}
	slices.SortFunc(ranks, func(a, b rank) int {
		return cmp.Or(
			a.standing(b), cmp.Compare(a.cost, b.cost), cmp.Compare(b.company, a.company),
			a.shorter(b, a.since, b.since, now), a.restarted(b),
			a.shorter(b, a.pod.CreationTimestamp.Time, b.pod.CreationTimestamp.Time, now),
			strings.Compare(a.pod.Name, b.pod.Name),
		)
	})
	return podsOf(ranks)
}

func ranksOf(pods []*corev1.Pod) []rank {
	ranks := make([]rank, len(pods))
	for i, pod := range pods {
		r := rank{pod: pod}
		if pod.Spec.NodeName != "" {
			r.placed = 1
		}
		switch pod.Status.Phase {
		case corev1.PodUnknown:
			r.phase = 1
		case corev1.PodRunning:
			r.phase = 2
		}
		if c := kind.PodCondition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
			r.ready, r.since = 1, c.LastTransitionTime.Time
		}
		r.restarts, r.sidecar = mostRestarts(pod)
		ranks[i] = r
	}
	return ranks
}

func podsOf(ranks []rank) []*corev1.Pod {
	pods := make([]*corev1.Pod, len(ranks))
	for i := range ranks {
		pods[i] = ranks[i].pod
	}
	return pods
}

// standing compares how far two pods have got.
func (r rank) standing(o rank) int {
	return cmp.Or(r.placed-o.placed, r.phase-o.phase, r.ready-o.ready)
}

// restarted compares how often their containers restarted.
func (r rank) restarted(o rank) int {
	return cmp.Or(cmp.Compare(o.restarts, r.restarts), cmp.Compare(o.sidecar, r.sidecar))
}

// shorter orders by how long ago, roughly, two times are.
func (r rank) shorter(o rank, at, bt, now time.Time) int {
	switch {
	case at.Equal(bt):
		return 0
	case at.IsZero() || bt.IsZero():
		return later(at, bt)
	}
	return cmp.Or(cmp.Compare(magnitude(now.Sub(at)), magnitude(now.Sub(bt))), strings.Compare(string(r.pod.UID), string(o.pod.UID)))
}

// magnitude is the logarithm of a duration, to base 2; -1 if it is none.
func magnitude(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return int64(math.Log2(float64(d)))
}

// deletionCost is what users say that the loss of a pod costs. Validation lets only
// numbers through.
func deletionCost(pod *corev1.Pod) int {
	n, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

// later orders an unknown time first, then the later ones.
func later(a, b time.Time) int {
	switch {
	case a.Equal(b):
		return 0
	case a.IsZero() || !b.IsZero() && a.After(b):
		return -1
	}
	return 1
}

// mostRestarts is how often the container that restarted most did so, among the
// regular containers and among the sidecars.
func mostRestarts(pod *corev1.Pod) (regular, sidecars int32) {
	for i := range pod.Status.ContainerStatuses {
		regular = max(regular, pod.Status.ContainerStatuses[i].RestartCount)
	}
	for i := range pod.Status.InitContainerStatuses {
		if s := &pod.Status.InitContainerStatuses[i]; kind.Sidecar(pod, s.Name) {
			sidecars = max(sidecars, s.RestartCount)
		}
	}
	return regular, sidecars
}
