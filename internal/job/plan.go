package job

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/podset"
	"github.com/sampan-batch/sampan/internal/reason"
)

// plan is what is done about the number of the Job's pods, and what waits. A plan
// either deletes or starts.
type plan struct {
	remove []*corev1.Pod         // active pods to delete
	start  []int32               // for each pod to create its index, noIndex in a Job without
	held   map[int32]*corev1.Pod // of the progress, what no started pod inherits from
	waits  Indexes               // with backoffLimitPerIndex: indexes whose back-off is not over
	told   bool                  // it notes that the next pod waits for the end of a back-off
	notes  []note                // why nothing, or less, is started
	wakeAt time.Time
	more   bool // more is to be done than fits one set
}

// note is what an event about the Job says.
type note struct{ eventType, reason, message string }

func normal(reason, message string) note { return note{corev1.EventTypeNormal, reason, message} }
func warning(reason, message string) note {
	return note{corev1.EventTypeWarning, reason, message}
}

// wake asks for another look at a time, if none before was asked for.
func (pl *plan) wake(at time.Time) {
	if pl.wakeAt.IsZero() || at.Before(pl.wakeAt) {
		pl.wakeAt = at
	}
}

// planOf brings the number of active pods to what the Job wants; a Job that is
// over wants none, and one that is being deleted leaves that to others.
func planOf(now time.Time, s State, c census, p progress, v verdict) plan {
	pl := plan{held: p.index.held}
	if !v.none() {
		pl.delete(c.active)
		return pl
	}
	if at, ok := deadline(now, c.job); ok {
		pl.wake(at)
	}
	switch {
	case c.job.DeletionTimestamp != nil:
		return pl
	case suspended(c.job):
		pl.delete(c.active)
		return pl
	}
	want := wanted(c, p)
	if surplus := surplusOf(c, p.index, want); len(surplus) > 0 {
		pl.delete(surplus)
		return pl
	}
	pl.replenish(now, s, c, p, want-int32(len(c.active)))
	return pl
}

// wanted is how many pods should be active.
func wanted(c census, p progress) int32 {
	if c.job.Spec.Completions == nil {
		// A work queue: once a worker has found nothing left to do, the others
		// only finish what they have.
		if p.successes > 0 {
			return int32(len(c.active))
		}
		return parallelism(c.job)
	}
	return max(0, min(completions(c.job)-p.successes, parallelism(c.job)))
}

// delete takes as many of these active pods as one set may.
func (pl *plan) delete(pods []*corev1.Pod) {
	if len(pods) > batch {
		pods, pl.more = pods[:batch], true
	}
	pl.remove = pods
}

// surplusOf returns the active pods that have to go so that want are left: those
// that have no index of their own, and then the ones that have got least far.
func surplusOf(c census, x indexes, want int32) []*corev1.Pod {
	excess := len(c.active) - int(want)
	left, gone := c.active, []*corev1.Pod(nil)
	if indexed(c.job) && !x.distinct {
		left, gone = onePerIndex(c.active, completions(c.job))
	}
	if n := excess - len(gone); n > 0 {
		gone = append(gone, podset.Ranked(left)[:n]...)
	}
	return gone
}

// onePerIndex keeps, of the active pods of each index, the one that has got
// furthest.
func onePerIndex(active []*corev1.Pod, completions int32) (left, gone []*corev1.Pod) {
	taken := make(map[int32]bool, len(active))
	furthest := podset.Ranked(active)
	slices.Reverse(furthest)
	for _, pod := range furthest {
		if i := indexOf(pod, completions); i == noIndex || taken[i] {
			gone = append(gone, pod)
		} else {
			taken[i] = true
			left = append(left, pod)
		}
	}
	return left, gone
}

// replenish starts the pods that are missing, as far as back-off, pods that still
// terminate and the size of a set allow.
func (pl *plan) replenish(now time.Time, s State, c census, p progress, missing int32) {
	if n := int32(len(c.terminating)); n > 0 && ReplacesOnlyFailed(c.job) {
		if missing > 0 && n > ptr.Deref(c.job.Status.Terminating, 0) { // more than it was said of before
			pl.notes = append(pl.notes, waitsForTermination(n))
		}
		missing -= n
	}
	if missing <= 0 {
		return
	}
	if at := p.streak.until(); at.After(now) {
		pl.wake(at)
		if !p.streak.told {
			pl.told, pl.notes = true, append(pl.notes, waitsForBackoff(p.streak))
		}
		return
	}
	if missing > batch {
		missing, pl.more = batch, true
	}
	if indexed(c.job) {
		pl.startIndexes(now, c, p.index, missing)
	} else {
		pl.start = slices.Repeat([]int32{noIndex}, int(missing))
	}
	if s.Refused != nil && len(pl.start) > 0 {
		pl.refuse(now, s.Refused, s.Room)
	}
	if !s.Stepwise { // there, a pod inherits once it can be seen
		pl.held = pl.inherited()
	}
}

// startIndexes starts up to n of the lowest indexes without a pod that still have
// to succeed. Those that wait for their back-off keep their turn: they are among
// the n, but not started.
func (pl *plan) startIndexes(now time.Time, c census, x indexes, n int32) {
	var leaving Indexes
	if ReplacesOnlyFailed(c.job) {
		leaving, _ = collect(c.terminating, completions(c.job))
	}
	var waits collector
	for _, i := range missing(n, completions(c.job), x.done, x.running, x.lost, leaving) {
		if pod := x.held[i]; pod != nil {
			if at := retryAt(pod, now); at.After(now) {
				waits.add(i)
				pl.wake(at)
				continue
			}
		}
		pl.start = append(pl.start, i)
	}
	pl.waits, _ = waits.set()
}

// refuse starts no more than there is room for, as the API would not have it.
func (pl *plan) refuse(now time.Time, why error, room int) {
	if room >= len(pl.start) {
		return // it has got more meanwhile
	}
	pl.start = pl.start[:room]
	pl.notes = append(pl.notes, warning(reason.FailedCreate, "Error creating: "+why.Error()))
	pl.wake(now.Add(createRetry))
}

// inherited returns the held pods without those that a started pod inherits from:
// these can be counted now.
func (pl *plan) inherited() map[int32]*corev1.Pod {
	if len(pl.held) == 0 || len(pl.start) == 0 {
		return pl.held
	}
	held := maps.Clone(pl.held)
	for _, i := range pl.start {
		delete(held, i)
	}
	return held
}

// waitsForBackoff explains, once for each failure, why no pod is started.
func waitsForBackoff(s streak) note {
	what := "1 pod failed"
	if s.failures > 1 {
		what = fmt.Sprintf("%d pods in a row failed", s.failures)
	}
	return normal(reason.BackOff, fmt.Sprintf("Waiting %s before starting another pod, until %s: %s",
		backoff(s.failures), s.until().UTC().Format(time.RFC3339), what))
}

// waitsForTermination explains, when more pods terminate than before, why they are
// not replaced yet.
func waitsForTermination(n int32) note {
	what := "a terminating pod before it has"
	if n > 1 {
		what = fmt.Sprintf("%d terminating pods before they have", n)
	}
	return normal(reason.WaitingForTermination, "Not replacing "+what+" ended: podReplacementPolicy is Failed")
}
