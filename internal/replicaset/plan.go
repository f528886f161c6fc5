package replicaset

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// plan is how many pods are created, and which go.
type plan struct {
	start   int
	remove  []*corev1.Pod
	refused error // why not all are created that are missing
	wakeAt  time.Time
}

func (p *plan) wake(at time.Time) {
	if !at.IsZero() && (p.wakeAt.IsZero() || at.Before(p.wakeAt)) {
		p.wakeAt = at
	}
}

// planOf brings the number of active pods to the one that is wanted.
func planOf(now time.Time, s State, c census) plan {
	var p plan
	if c.set.DeletionTimestamp != nil {
		return p
	}
	want := int(ptr.Deref(c.set.Spec.Replicas, 1))
	missing := want - len(c.active)
	if missing > batch || -missing > batch {
		missing = min(max(missing, -batch), batch)
		p.wake(now)
	}
	switch {
	case missing > 0:
		p.replenish(now, s, missing)
	case missing < 0 && want == 0: // all go, in whatever order
		p.remove = c.active[:-missing]
	case missing < 0:
		p.remove = podset.Spread(c.active, s.Related(), now)[:-missing]
	}
	return p
}

// replenish creates the pods that are missing, as far as the API takes them.
func (p *plan) replenish(now time.Time, s State, missing int) {
	p.start = missing
	if s.Refused == nil || s.Room >= missing { // there may be more room than there was before
		return
	}
	p.start = s.Room
	if kind.NamespaceTerminates(s.Refused) {
		return
	}
	p.refused, p.wakeAt = s.Refused, now.Add(refusedRetry)
}
