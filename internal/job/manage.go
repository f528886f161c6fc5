package job

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// manage brings the number of active pods to what the Job wants. A set either
// deletes or creates; deleting comes first.
func (d *decision) manage() {
	switch {
	case d.Job.DeletionTimestamp != nil:
		return
	case suspended(d.Job):
		d.remove(d.active)
		return
	}
	want := d.wanted()
	if surplus := d.surplus(want); len(surplus) > 0 {
		d.remove(surplus)
		return
	}
	d.start(want)
}

// wanted is how many pods should be active.
func (d *decision) wanted() int32 {
	if d.Job.Spec.Completions == nil {
		// A work queue: once a worker has found nothing left to do, the others
		// only finish what they have.
		if d.successes > 0 {
			return int32(len(d.active))
		}
		return d.parallelism
	}
	return max(0, min(d.completions-d.successes, d.parallelism))
}

// remove deletes as many of these active pods as one set may.
func (d *decision) remove(pods []*corev1.Pod) {
	for i, pod := range pods {
		if i == batch {
			d.more = true
			return
		}
		d.end(pod)
	}
}

// surplus returns the active pods that have to go so that want are left: those
// that have no index of their own, and then the ones that have got least far.
func (d *decision) surplus(want int32) []*corev1.Pod {
	excess := len(d.active) - int(want)
	left, gone := d.active, []*corev1.Pod(nil)
	if d.indexed && !d.distinct {
		left, gone = d.onePerIndex()
	}
	if n := excess - len(gone); n > 0 {
		gone = append(gone, ranked(left)[:n]...)
	}
	return gone
}

// onePerIndex keeps, of the active pods of each index, the one that has got
// furthest.
func (d *decision) onePerIndex() (left, gone []*corev1.Pod) {
	taken := make(map[int32]bool, len(d.active))
	furthest := ranked(d.active)
	slices.Reverse(furthest)
	for _, pod := range furthest {
		if i := indexOf(pod, d.completions); i == noIndex || taken[i] {
			gone = append(gone, pod)
		} else {
			taken[i] = true
			left = append(left, pod)
		}
	}
	return left, gone
}

// ranked returns active pods with those first that cost least to lose: without
// a node before with one, pending before running, not ready before ready, ready
// for a short time before long, often restarted before seldom, young before old.
func ranked(pods []*corev1.Pod) []*corev1.Pod {
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

// start creates the pods that are missing, as far as back-off, pods that still
// terminate and the size of a set allow.
func (d *decision) start(want int32) {
	missing := want - int32(len(d.active))
	if ReplacesOnlyFailed(d.Job) && len(d.terminating) > 0 {
		d.tellTerminating(missing)
		missing -= int32(len(d.terminating))
	}
	if missing <= 0 {
		return
	}
	if at := d.streak.until(); at.After(d.now) {
		d.set.Wake(at)
		d.tellBackoff(at)
		return
	}
	if missing > batch {
		missing, d.more = batch, true
	}
	var indexes []int32
	if d.indexed {
		indexes = d.startable(missing)
		missing = int32(len(indexes))
	}
	d.create(missing, indexes)
}

// tellBackoff explains, once for each failure, why no pod is started.
func (d *decision) tellBackoff(at time.Time) {
	if d.streak.told {
		return
	}
	d.streak.told = true
	what := "1 pod failed"
	if n := d.streak.failures; n > 1 {
		what = fmt.Sprintf("%d pods in a row failed", n)
	}
	d.note(corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Waiting %s before starting another pod, until %s: %s",
		backoff(d.streak.failures), at.UTC().Format(time.RFC3339), what))
}

// tellTerminating explains, when more pods terminate than before, why they are
// not replaced yet.
func (d *decision) tellTerminating(missing int32) {
	n := int32(len(d.terminating))
	if missing <= 0 || n <= ptr.Deref(d.Job.Status.Terminating, 0) {
		return
	}
	what := "a terminating pod before it has"
	if n > 1 {
		what = fmt.Sprintf("%d terminating pods before they have", n)
	}
	d.note(corev1.EventTypeNormal, "WaitingForTermination", "Not replacing "+what+" ended: podReplacementPolicy is Failed")
}
