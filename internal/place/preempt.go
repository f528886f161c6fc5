package place

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
	"github.com/sampan-batch/sampan/internal/reason"
)

// candidate is a node on which a pod would have room if its victims were not there.
type candidate struct {
	room     *room
	victims  []*corev1.Pod // the most important one first
	violated int           // how many of them a budget would keep
}

// preempt has pods of lower priority go for the pod, where that helps, and returns what is to be
// said of it; next is the pod as it will be.
func (d *decision) preempt(t *trial, next *corev1.Pod) string {
	why := t.unavailable() + " preemption: "
	if ptr.Deref(t.pod.Spec.PreemptionPolicy, corev1.PreemptLowerPriority) == corev1.PreemptNever {
		return why + "not eligible due to preemptionPolicy=Never."
	}
	if r := t.awaited(); r != nil {
		r.take(t.pod) // what is left of it is not for others
		return why + "not eligible due to a terminating pod on the nominated node."
	}
	best, unfit := t.candidates()
	if best == nil {
		next.Status.NominatedNodeName = ""
		return why + histogram(len(t.rooms), unfit)
	}
	for _, victim := range best.victims {
		best.room.drop(victim)
		d.evict(victim, t.pod, best.room.name())
	}
	best.room.take(t.pod)
	next.Status.NominatedNodeName = best.room.name()
	d.cleared[best.room.name()] = priorityOf(t.pod)
	return why + fmt.Sprintf("found a potential placement for pod on node %v, preempting %d victims", best.room.name(), len(best.victims))
}

// awaited returns the node that the pod waits for, if pods that were told to go for it, or for
// others, are still on their way.
func (t *trial) awaited() *room {
	for i, r := range t.rooms {
		if r.name() != t.pod.Status.NominatedNodeName || t.refusals[i].hopeless {
			continue
		}
		r.load()
		for _, p := range r.pods {
			if p.DeletionTimestamp == nil || priorityOf(p) >= priorityOf(t.pod) {
				continue
			}
			c := kind.PodCondition(p, corev1.DisruptionTarget)
			if c != nil && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler {
				return r
			}
		}
	}
	return nil
}

// candidates returns the best node on which the pod would have room if others went, or, for each
// reason, how many nodes there are where it would not.
func (t *trial) candidates() (best *candidate, unfit map[string]int) {
	unfit = map[string]int{}
	for i, r := range t.rooms {
		if t.refusals[i].hopeless {
			unfit[unhelpful]++
			continue
		}
		c, why := t.victims(r)
		if c == nil {
			for _, reason := range why {
				unfit[reason]++
			}
			continue
		}
		if best == nil || c.better(best) {
			best = c
		}
	}
	return best, unfit
}

// victims finds the fewest and least important pods on a node without which the pod has room
// there, or why there are none. Nothing is booked.
func (t *trial) victims(r *room) (*candidate, []string) {
	r.load()
	var lower []*corev1.Pod
	for _, p := range r.pods {
		if priorityOf(p) < priorityOf(t.pod) && p.Spec.NodeName != "" {
			lower = append(lower, p)
		}
	}
	if len(lower) == 0 {
		return nil, []string{"No preemption victims found for incoming pod"}
	}
	saved := *r
	r.used, r.ports = copied(r.used), copied(r.ports)
	defer func() {
		*r = saved
		t.relook()
	}()
	for _, p := range lower {
		r.drop(p)
	}
	t.relook()
	if refused := t.filter(r); !refused.ok() {
		return nil, refused.why
	}
	slices.SortStableFunc(lower, moreImportant)
	kept, free := t.guarded(lower)
	c := &candidate{room: r}
	spare := func(p *corev1.Pod) bool {
		r.take(p)
		t.relook()
		if t.filter(r).ok() {
			return true
		}
		r.drop(p)
		t.relook()
		c.victims = append(c.victims, p)
		return false
	}
	for _, p := range kept {
		if !spare(p) {
			c.violated++
		}
	}
	for _, p := range free {
		spare(p)
	}
	slices.SortStableFunc(c.victims, moreImportant)
	if len(c.victims) == 0 {
		return nil, []string{"No preemption victims found for incoming pod"}
	}
	return c, nil
}

// relook sums up anew what is on the nodes, if that matters to the pod.
func (t *trial) relook() {
	if t.relational() {
		t.look()
	}
}

func copied[K comparable, V any](m map[K]V) map[K]V {
	next := make(map[K]V, len(m))
	for k, v := range m {
		next[k] = v
	}
	return next
}

// moreImportant orders pods: those of higher priority first, then those that began earlier.
func moreImportant(a, b *corev1.Pod) int {
	return cmp.Or(cmp.Compare(priorityOf(b), priorityOf(a)), startOf(a).Compare(startOf(b)))
}

// startOf is when a pod began; one that has not begun is the youngest.
func startOf(pod *corev1.Pod) time.Time {
	if pod.Status.StartTime == nil {
		return time.Unix(math.MaxInt32, 0)
	}
	return pod.Status.StartTime.Time
}

// guarded divides pods into those of which a budget would miss one more than it may, and others.
func (t *trial) guarded(pods []*corev1.Pod) (kept, free []*corev1.Pod) {
	if t.budgets == nil {
		t.budgets = []*policyv1.PodDisruptionBudget{}
		for obj := range t.others.List(kind.PodDisruptionBudgets, "") {
			t.budgets = append(t.budgets, obj.(*policyv1.PodDisruptionBudget))
		}
	}
	allowed := make([]int32, len(t.budgets))
	for i, b := range t.budgets {
		allowed[i] = b.Status.DisruptionsAllowed
	}
next:
	for _, p := range pods {
		for i, b := range t.budgets {
			if len(p.Labels) == 0 || !kind.Guards(b, p) {
				continue
			}
			if _, disrupted := b.Status.DisruptedPods[p.Name]; disrupted {
				continue
			}
			if allowed[i]--; allowed[i] < 0 {
				kept = append(kept, p)
				continue next
			}
		}
		free = append(free, p)
	}
	return kept, free
}

// better compares candidates as kube-scheduler does: by the budgets that would be violated, the
// priority of the most important victim, the sum of all priorities, their number, and by how late
// the first of the most important ones began.
func (c *candidate) better(than *candidate) bool {
	return cmp.Or(
		cmp.Compare(c.violated, than.violated),
		cmp.Compare(priorityOf(c.victims[0]), priorityOf(than.victims[0])),
		cmp.Compare(c.sum(), than.sum()),
		cmp.Compare(len(c.victims), len(than.victims)),
		than.began().Compare(c.began()),
	) < 0
}

// sum is that of the victims' priorities, each counted from the lowest there is.
func (c *candidate) sum() (sum int64) {
	for _, p := range c.victims {
		sum += int64(priorityOf(p)) + math.MaxInt32 + 1
	}
	return sum
}

// began is when the first of the most important victims began.
func (c *candidate) began() time.Time {
	first := startOf(c.victims[0])
	for _, p := range c.victims {
		if priorityOf(p) == priorityOf(c.victims[0]) && startOf(p).Before(first) {
			first = startOf(p)
		}
	}
	return first
}

// evict tells a pod to go, and why.
func (d *decision) evict(victim, forPod *corev1.Pod, node string) {
	next := victim.DeepCopy()
	podspec.SetCondition(&next.Status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message:            Component + ": preempting to accommodate a higher priority pod",
		LastTransitionTime: metav1.NewTime(d.now), ObservedGeneration: victim.Generation,
	})
	w, ok := d.row.Removal(next, change.RevOf(victim), d.now, nil)
	if !ok {
		return // it goes already
	}
	d.set.Writes = append(d.set.Writes, w)
	d.set.Note(change.Note{
		Regarding: regarding(victim), Component: Component, Type: corev1.EventTypeNormal, Reason: reason.Preempted,
		Message: fmt.Sprintf("Preempted by pod %v on node %v", forPod.UID, node),
	})
}
