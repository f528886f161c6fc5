package place

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/utils/ptr"
)

// spread is a topology spread constraint of a pod, and how its like are spread now.
type spread struct {
	constraint *corev1.TopologySpreadConstraint
	selector   labels.Selector
	self       int            // 1 if the pod is one of those that are counted
	counts     map[string]int // by the value of the constraint's label
}

// newSpread counts what the constraints of one kind count: on nodes that have the labels of all
// of them, and that the pod might have.
func (t *trial) newSpread(action corev1.UnsatisfiableConstraintAction) []*spread {
	var all []*spread
	for i := range t.pod.Spec.TopologySpreadConstraints {
		c := &t.pod.Spec.TopologySpreadConstraints[i]
		if c.WhenUnsatisfiable != action {
			continue
		}
		s := &spread{constraint: c, selector: spreadSelector(c, t.pod), counts: map[string]int{}}
		if s.selector.Matches(labels.Set(t.pod.Labels)) {
			s.self = 1
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil
	}
	required := nodeaffinity.GetRequiredNodeAffinity(t.pod)
	for _, r := range t.rooms {
		if !hasAll(r, all) {
			continue
		}
		for _, s := range all {
			if s.counted(r, t.pod, required) {
				value, _ := r.label(s.constraint.TopologyKey)
				s.counts[value] += s.on(r, t.pod)
			}
		}
	}
	return all
}

// spreadSelector selects the pods that are counted: those of the constraint's selector that have
// the same labels as the pod where it says so.
func spreadSelector(c *corev1.TopologySpreadConstraint, pod *corev1.Pod) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
	if err != nil {
		return labels.Nothing()
	}
	same := labels.Set{}
	for _, key := range c.MatchLabelKeys {
		if value, has := pod.Labels[key]; has {
			same[key] = value
		}
	}
	requirements, selectable := selector.Requirements()
	if len(same) == 0 || !selectable {
		return selector
	}
	merged := labels.SelectorFromSet(same)
	for _, r := range requirements {
		merged = merged.Add(r)
	}
	return merged
}

// hasAll reports whether a node has the labels of all constraints.
func hasAll(r *room, all []*spread) bool {
	for _, s := range all {
		if _, has := r.label(s.constraint.TopologyKey); !has {
			return false
		}
	}
	return true
}

// counted reports whether what is on a node counts.
func (s *spread) counted(r *room, pod *corev1.Pod, required nodeaffinity.RequiredNodeAffinity) bool {
	if ptr.Deref(s.constraint.NodeAffinityPolicy, corev1.NodeInclusionPolicyHonor) == corev1.NodeInclusionPolicyHonor {
		if match, _ := required.Match(r.Node.Node); !match {
			return false
		}
	}
	taints := ptr.Deref(s.constraint.NodeTaintsPolicy, corev1.NodeInclusionPolicyIgnore)
	return taints == corev1.NodeInclusionPolicyIgnore || !untolerated(r.Node.Node, pod)
}

// on is how many of the pods that are counted are on a node.
func (s *spread) on(r *room, pod *corev1.Pod) (n int) {
	r.load()
	if s.selector.Empty() {
		return 0
	}
	for _, other := range r.pods {
		if other.DeletionTimestamp == nil && other.Namespace == pod.Namespace && s.selector.Matches(labels.Set(other.Labels)) {
			n++
		}
	}
	return n
}

// least is how few are where the fewest are.
func (s *spread) least() int {
	if len(s.counts) < int(ptr.Deref(s.constraint.MinDomains, 1)) {
		return 0
	}
	least, first := 0, true
	for _, n := range s.counts {
		if first || n < least {
			least, first = n, false
		}
	}
	return least
}

// refuses returns why the pod would be too many on a node.
func (s *spread) refuses(r *room) (why string, hopeless bool) {
	const skewed = "node(s) didn't match pod topology spread constraints"
	value, has := r.label(s.constraint.TopologyKey)
	if !has {
		return skewed + " (missing required label)", true
	}
	if s.counts[value]+s.self-s.least() > int(s.constraint.MaxSkew) {
		return skewed, false
	}
	return "", false
}
