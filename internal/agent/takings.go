package agent

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/fit"
	"github.com/sampan-batch/sampan/internal/kind"
)

// takings are the pods that the node has taken without a scheduler, from when it decides that until the
// API tells so. What a scheduler has bound was looked at by it.
type takings struct {
	// each calls visit with the pods of the node that are not over; set before any begins.
	each func(visit func(uid string, pod *corev1.Pod))

	mu    sync.Mutex
	taken map[string]bool // by the pod's uid
}

// take takes a pod that finds room beside those that were taken before, or says why not.
func (t *takings) take(node *corev1.Node, uid string, pod *corev1.Pod) *fit.Refusal {
	t.mu.Lock()
	defer t.mu.Unlock()
	var others []*corev1.Pod
	t.each(func(other string, p *corev1.Pod) {
		if other != uid && !kind.PodEnded(p) && (t.taken[other] || acknowledged(p)) {
			others = append(others, p)
		}
	})
	if r := fit.Refuses(node, pod, others); r != nil {
		return r
	}
	if t.taken == nil {
		t.taken = make(map[string]bool)
	}
	t.taken[uid] = true
	return nil
}

// forget lets go of a pod that is over.
func (t *takings) forget(uid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.taken, uid)
}

// acknowledged tells whether the API knows that the pod has a place on its node: a scheduler has bound it
// there, or the node has taken it.
func acknowledged(pod *corev1.Pod) bool {
	return pod.Status.StartTime != nil || slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue
	})
}
