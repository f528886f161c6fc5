package place

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// hasPodAffinity reports whether a pod wants to be near other pods, or far from them.
func hasPodAffinity(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	return a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil)
}

// repels reports whether a pod must not be near certain others.
func repels(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	return a != nil && a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0
}

// term is a term of a pod's affinity.
type term struct {
	key        string
	selector   labels.Selector
	namespaces []string
	namespaced labels.Selector // nil: none beyond namespaces
}

// newTerm parses a term of a pod in namespace.
func newTerm(t *corev1.PodAffinityTerm, namespace string) term {
	parsed := term{key: t.TopologyKey, namespaces: t.Namespaces, selector: labels.Nothing()}
	if s, err := metav1.LabelSelectorAsSelector(t.LabelSelector); err == nil {
		parsed.selector = s
	}
	if t.NamespaceSelector != nil {
		if s, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector); err == nil {
			parsed.namespaced = s
		}
	} else if len(t.Namespaces) == 0 {
		parsed.namespaces = []string{namespace}
	}
	return parsed
}

func newTerms(list []corev1.PodAffinityTerm, namespace string) []term {
	terms := make([]term, len(list))
	for i := range list {
		terms[i] = newTerm(&list[i], namespace)
	}
	return terms
}

// matches reports whether a pod is one that the term means.
func (c *cluster) matches(t *term, pod *corev1.Pod) bool {
	if !slices.Contains(t.namespaces, pod.Namespace) && (t.namespaced == nil || !t.namespaced.Matches(c.labelsOf(pod.Namespace))) {
		return false
	}
	return t.selector.Matches(labels.Set(pod.Labels))
}

// locality is a value of a label of nodes: what a term calls near.
type locality struct{ key, value string }

// affinity is what of other pods matters to a pod, and to which of them it matters.
type affinity struct {
	near, far []term
	self      bool // the pod is one that it wants to be near
	// How many pods it wants to be near there are at a place, how many it wants to be far
	// from, and how many want to be far from it.
	found, shunned, shunning map[locality]int
}

// newAffinity looks at all pods; nil: nothing keeps any of them from any other.
func (t *trial) newAffinity() *affinity {
	if !hasPodAffinity(t.pod) && !slices.ContainsFunc(t.rooms, func(r *room) bool { return len(r.affine) > 0 }) {
		return nil
	}
	a := affinity{found: map[locality]int{}, shunned: map[locality]int{}, shunning: map[locality]int{}}
	if want := t.pod.Spec.Affinity; want != nil {
		if want.PodAffinity != nil {
			a.near = newTerms(want.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, t.pod.Namespace)
		}
		if want.PodAntiAffinity != nil {
			a.far = newTerms(want.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, t.pod.Namespace)
		}
	}
	for _, r := range t.rooms {
		for _, other := range r.affine {
			if !repels(other) {
				continue
			}
			for _, term := range newTerms(other.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, other.Namespace) {
				if value, has := r.label(term.key); has && t.matches(&term, t.pod) {
					a.shunning[locality{term.key, value}]++
				}
			}
		}
	}
	if len(a.near)+len(a.far) == 0 {
		if len(a.shunning) == 0 {
			return nil
		}
		return &a
	}
	a.self = t.all(a.near, t.pod)
	for _, r := range t.rooms {
		r.load()
		for _, other := range r.pods {
			t.see(&a, r, other)
		}
	}
	return &a
}

// see counts a pod on a node.
func (t *trial) see(a *affinity, r *room, other *corev1.Pod) {
	if len(a.near) > 0 && t.all(a.near, other) {
		for i := range a.near {
			if value, has := r.label(a.near[i].key); has {
				a.found[locality{a.near[i].key, value}]++
			}
		}
	}
	for i := range a.far {
		if value, has := r.label(a.far[i].key); has && t.matches(&a.far[i], other) {
			a.shunned[locality{a.far[i].key, value}]++
		}
	}
}

// all reports whether all terms mean a pod.
func (c *cluster) all(terms []term, pod *corev1.Pod) bool {
	for i := range terms {
		if !c.matches(&terms[i], pod) {
			return false
		}
	}
	return true
}

// refuses returns why a node is at a wrong place.
func (a *affinity) refuses(r *room) (why string, hopeless bool) {
	satisfied, labelled := true, true
	for i := range a.near {
		value, has := r.label(a.near[i].key)
		labelled = labelled && has
		satisfied = satisfied && has && a.found[locality{a.near[i].key, value}] > 0
	}
	// The first of pods that want to be near each other may be anywhere.
	if !satisfied && !(labelled && len(a.found) == 0 && a.self) {
		return "node(s) didn't match pod affinity rules", true
	}
	for i := range a.far {
		if value, has := r.label(a.far[i].key); has && a.shunned[locality{a.far[i].key, value}] > 0 {
			return "node(s) didn't match pod anti-affinity rules", false
		}
	}
	for at, n := range a.shunning {
		if value, has := r.label(at.key); n > 0 && has && value == at.value {
			return "node(s) didn't satisfy existing pods anti-affinity rules", false
		}
	}
	return "", false
}
