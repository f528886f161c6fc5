package place

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// maxScore is the best that a node can have of one kind of score.
const maxScore = 100

// best returns the best of the nodes that may have the pod, nil if there is none: the one with the
// highest sum of kube-scheduler's scores, by its weights. Of equals it is the one with the fewest
// pods, then the first; kube-scheduler draws lots. (All nodes have the same images.)
func (t *trial) best(fit []*room) *room {
	if len(fit) < 2 {
		if len(fit) == 1 {
			return fit[0]
		}
		return nil
	}
	sums := make([]int64, len(fit))
	add := func(weight int64, scores []int64) {
		for i, s := range scores {
			sums[i] += weight * s
		}
	}
	add(3, t.taintScores(fit))
	add(2, t.nodeScores(fit))
	add(1, each(fit, t.leastAllocated))
	add(1, each(fit, t.balance))
	add(2, t.spreadScores(fit))
	add(2, t.affinityScores(fit))
	best := 0
	for i, r := range fit {
		if sums[i] > sums[best] || sums[i] == sums[best] && r.Count+r.delta < fit[best].Count+fit[best].delta {
			best = i
		}
	}
	return fit[best]
}

func each(fit []*room, score func(*room) int64) []int64 {
	scores := make([]int64, len(fit))
	for i, r := range fit {
		scores[i] = score(r)
	}
	return scores
}

// proportional makes the highest score the best there is; reverse makes it the worst.
func proportional(scores []int64, reverse bool) []int64 {
	var most int64
	for _, s := range scores {
		most = max(most, s)
	}
	for i := range scores {
		if most > 0 {
			scores[i] = maxScore * scores[i] / most
		}
		if reverse {
			scores[i] = maxScore - scores[i]
		}
	}
	return scores
}

// taintScores prefers nodes with few taints PreferNoSchedule that the pod does not tolerate.
func (t *trial) taintScores(fit []*room) []int64 {
	return proportional(each(fit, func(r *room) (n int64) {
		for i := range r.Node.Node.Spec.Taints {
			taint := &r.Node.Node.Spec.Taints[i]
			if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(taint, t.pod) {
				n++
			}
		}
		return n
	}), true)
}

func tolerated(taint *corev1.Taint, pod *corev1.Pod) bool {
	for i := range pod.Spec.Tolerations {
		tol := &pod.Spec.Tolerations[i]
		if (tol.Effect == "" || tol.Effect == corev1.TaintEffectPreferNoSchedule) && tol.ToleratesTaint(klog.Logger{}, taint, false) {
			return true
		}
	}
	return false
}

// nodeScores prefers nodes by the terms of preferred node affinity.
func (t *trial) nodeScores(fit []*room) []int64 {
	a := t.pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return nil
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return nil
	}
	return proportional(each(fit, func(r *room) int64 { return terms.Score(r.Node.Node) }), false)
}

// leastAllocated prefers nodes of which more is free.
func (t *trial) leastAllocated(r *room) int64 {
	cpu, memory := r.guesses()
	c, m := guess(t.pod)
	all := r.allocatable()
	var sum, parts int64
	for _, of := range [][2]int64{{cpu + c, all.Cpu().MilliValue()}, {memory + m, all.Memory().Value()}} {
		if of[1] == 0 {
			continue
		}
		parts++
		if of[0] <= of[1] {
			sum += (of[1] - of[0]) * maxScore / of[1]
		}
	}
	if parts == 0 {
		return 0
	}
	return sum / parts
}

// balance prefers nodes where the pod makes of what is taken of processors and of memory the same
// part. A pod that asks for neither changes nothing.
func (t *trial) balance(r *room) int64 {
	pod := requests(t.pod)
	if pod == [2]float64{} {
		return 0
	}
	r.load()
	used, all := pair(r.used), pair(r.allocatable())
	with := [2]float64{used[0] + pod[0], used[1] + pod[1]}
	return maxScore/2 + (maxScore/2+evenness(with, all)-evenness(used, all))/2
}

func evenness(used, all [2]float64) int64 {
	if all[0] == 0 || all[1] == 0 {
		return maxScore
	}
	cpu, memory := min(used[0]/all[0], 1), min(used[1]/all[1], 1)
	return int64((1 - math.Abs(cpu-memory)/2) * maxScore)
}

// pair is what of processors and memory is in a list.
func pair(list corev1.ResourceList) [2]float64 {
	return [2]float64{float64(list.Cpu().MilliValue()), float64(list.Memory().Value())}
}

// spreadScores prefers nodes at places where few of the pod's like are, by the constraints that
// it would rather have than must.
func (t *trial) spreadScores(fit []*room) []int64 {
	all := t.newSpread(corev1.ScheduleAnyway)
	if len(all) == 0 {
		return nil
	}
	sizes, counted := make([]map[string]bool, len(all)), 0
	for _, r := range fit {
		if !hasAll(r, all) {
			continue
		}
		counted++
		for i, s := range all {
			if sizes[i] == nil {
				sizes[i] = map[string]bool{}
			}
			value, _ := r.label(s.constraint.TopologyKey)
			sizes[i][value] = true
		}
	}
	scores := each(fit, func(r *room) int64 {
		if !hasAll(r, all) {
			return -1
		}
		var sum float64
		for i, s := range all {
			value, _ := r.label(s.constraint.TopologyKey)
			n, size := s.counts[value], len(sizes[i])
			if s.constraint.TopologyKey == corev1.LabelHostname {
				n, size = s.on(r, t.pod), counted
			}
			sum += float64(n)*math.Log(float64(size+2)) + float64(s.constraint.MaxSkew-1)
		}
		return int64(math.Round(sum))
	})
	return fewest(scores)
}

// fewest makes of sums the scores that are best where the sum is least; -1 is worst.
func fewest(scores []int64) []int64 {
	least, most := int64(math.MaxInt64), int64(0)
	for _, s := range scores {
		if s >= 0 {
			least, most = min(least, s), max(most, s)
		}
	}
	for i, s := range scores {
		switch {
		case s < 0:
			scores[i] = 0
		case most == 0:
			scores[i] = maxScore
		default:
			scores[i] = maxScore * (most + least - s) / most
		}
	}
	return scores
}

// affinityScores prefers nodes near the pods that the pod would like to be near, and that would like
// to be near it, or have to be.
func (t *trial) affinityScores(fit []*room) []int64 {
	at := map[locality]int64{}
	mine := weighted(t.pod)
	for _, r := range t.rooms {
		for _, other := range r.affine {
			for _, w := range append(weighted(other), hard(other)...) {
				t.weigh(at, r, &w, t.pod)
			}
		}
		if len(mine) > 0 {
			r.load()
			for _, other := range r.pods {
				for i := range mine {
					t.weigh(at, r, &mine[i], other)
				}
			}
		}
	}
	if len(at) == 0 {
		return nil
	}
	scores := each(fit, func(r *room) (sum int64) {
		for l, weight := range at {
			if value, has := r.label(l.key); has && value == l.value {
				sum += weight
			}
		}
		return sum
	})
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, s := range scores {
		least, most = min(least, s), max(most, s)
	}
	for i, s := range scores {
		scores[i] = 0
		if most > least {
			scores[i] = int64(maxScore * (float64(s-least) / float64(most-least)))
		}
	}
	return scores
}

// wish is a term with the weight that it has.
type wish struct {
	term
	weight int64
}

// weigh adds a wish's weight to the place of a node if the wish means a pod.
func (t *trial) weigh(at map[locality]int64, r *room, w *wish, pod *corev1.Pod) {
	if value, has := r.label(w.key); has && t.matches(&w.term, pod) {
		at[locality{w.key, value}] += w.weight
	}
}

// weighted returns what a pod would like.
func weighted(pod *corev1.Pod) (wishes []wish) {
	a := pod.Spec.Affinity
	if a == nil {
		return nil
	}
	add := func(list []corev1.WeightedPodAffinityTerm, sign int64) {
		for i := range list {
			wishes = append(wishes, wish{newTerm(&list[i].PodAffinityTerm, pod.Namespace), sign * int64(list[i].Weight)})
		}
	}
	if a.PodAffinity != nil {
		add(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if a.PodAntiAffinity != nil {
		add(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, -1)
	}
	return wishes
}

// hard returns whom a pod has to be near, as little wishes: it may be glad of more of them.
func hard(pod *corev1.Pod) (wishes []wish) {
	if a := pod.Spec.Affinity; a != nil && a.PodAffinity != nil {
		for i := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			wishes = append(wishes, wish{newTerm(&a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[i], pod.Namespace), 1})
		}
	}
	return wishes
}
