package daemonset

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/podset"
)

// statusOf is the status when the plan has been carried out: with the pods that are
// created, and without those of gone, which are deleted at once.
func statusOf(now time.Time, c census, r record, p *plan, gone map[*corev1.Pod]bool) appsv1.DaemonSetStatus {
	st := *c.set.Status.DeepCopy()
	st.ObservedGeneration = max(st.ObservedGeneration, c.set.Generation)
	st.DesiredNumberScheduled, st.CurrentNumberScheduled, st.NumberMisscheduled = 0, 0, 0
	st.NumberReady, st.NumberAvailable, st.UpdatedNumberScheduled = 0, 0, 0
	for _, h := range c.hosts {
		left := slices.DeleteFunc(slices.Clone(c.on[h.node.Name]), func(pod *corev1.Pod) bool { return gone[pod] })
		starts := slices.Contains(p.start, h.node.Name)
		has := len(left) > 0 || starts
		switch {
		case h.wanted:
			st.DesiredNumberScheduled++
		case has:
			st.NumberMisscheduled++
		}
		if !h.wanted || !has {
			continue
		}
		st.CurrentNumberScheduled++
		if len(left) == 0 { // the one that is created is the node's oldest
			st.UpdatedNumberScheduled++
			continue
		}
		countPod(now, &st, r, p, left[0], c.set.Spec.MinReadySeconds)
	}
	st.NumberUnavailable = st.DesiredNumberScheduled - st.NumberAvailable
	return st
}

// countPod counts the oldest pod of a node that is wanted.
func countPod(now time.Time, st *appsv1.DaemonSetStatus, r record, p *plan, pod *corev1.Pod, minReadySeconds int32) {
	if podset.Ready(pod) {
		st.NumberReady++
	}
	available, at := podset.Available(pod, minReadySeconds, now)
	p.wake(at)
	if available {
		st.NumberAvailable++
	}
	if r.of(pod) {
		st.UpdatedNumberScheduled++
	}
}
