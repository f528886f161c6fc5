package podset

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Ranked returns active pods with those first that cost least to lose: without
// a node before with one, pending before running, not ready before ready, ready
// for a short time before long, often restarted before seldom, young before old.
func Ranked(pods []*corev1.Pod) []*corev1.Pod {
	type rank struct {
		pod               *corev1.Pod
		placed, phase     int
		ready             int
		since             time.Time
		restarts, sidecar int32
	}
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
	slices.SortFunc(ranks, func(a, b rank) int {
		return cmp.Or(
			a.placed-b.placed, a.phase-b.phase, a.ready-b.ready, later(a.since, b.since),
			cmp.Compare(b.restarts, a.restarts), cmp.Compare(b.sidecar, a.sidecar),
			later(a.pod.CreationTimestamp.Time, b.pod.CreationTimestamp.Time),
			strings.Compare(a.pod.Name, b.pod.Name),
		)
	})
	sorted := make([]*corev1.Pod, len(ranks))
	for i := range ranks {
		sorted[i] = ranks[i].pod
	}
	return sorted
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
