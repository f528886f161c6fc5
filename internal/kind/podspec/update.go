package podspec

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// mutable is what an update may change, in Kubernetes' words.
const mutable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// ValidatePodUpdate checks a changed pod and how it was changed.
func ValidatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	c := newChecker(&pod.Spec, &pod.ObjectMeta)
	c.pod()
	c.annotationUpdates(old.Annotations)
	c.specUpdate(&old.Spec)
	return c.result(func() *checker {
		was := newChecker(&old.Spec, &old.ObjectMeta)
		was.pod()
		return was
	})
}

// annotationUpdates refuses changes of annotations that are fixed for a pod's
// life, and checks the others.
func (c *checker) annotationUpdates(old map[string]string) {
	path := field.NewPath("metadata", "annotations")
	fixed := func(key string, appArmor, mirror string) {
		if strings.HasPrefix(key, appArmorAnnotation) {
			c.forbidden(path.Key(key), appArmor)
		}
		if key == corev1.MirrorPodAnnotationKey {
			c.forbidden(path.Key(key), mirror)
		}
	}
	for _, key := range sortedKeys(old) {
		if value, ok := c.meta.Annotations[key]; !ok || value != old[key] {
			fixed(key, "may not remove or update AppArmor annotations", "may not remove or update mirror pod annotation")
		}
	}
	for _, key := range sortedKeys(c.meta.Annotations) {
		if _, ok := old[key]; !ok {
			fixed(key, "may not add AppArmor annotations", "may not add mirror pod annotation")
		}
	}
	c.annotations(c.meta.Annotations, path)
}

// specUpdate checks what was changed since old.
func (c *checker) specUpdate(old *corev1.PodSpec) {
	path := field.NewPath("spec")
	if !c.sameContainers(path.Child("containers"), c.spec.Containers, old.Containers) ||
		!c.sameContainers(path.Child("initContainers"), c.spec.InitContainers, old.InitContainers) ||
		!c.deadlineUpdate(path.Child("activeDeadlineSeconds"), old.ActiveDeadlineSeconds) {
		return
	}
	c.onlyAddedTolerations(path.Child("tolerations"), old.Tolerations)
	c.onlyRemovedGates(path.Child("schedulingGates"), old.SchedulingGates)
	if equality.Semantic.DeepEqual(c.spec, old) {
		return
	}
	rest := c.withoutMutable(old)
	if len(old.SchedulingGates) > 0 {
		c.gatedUpdate(path, rest, old)
	}
	if !equality.Semantic.DeepEqual(rest, old) {
		c.forbidden(path, fmt.Sprintf("pod updates may not change fields other than %s\n%v",
			mutable, diff.Diff(Internal(*old), Internal(*rest))))
	}
}

// withoutMutable returns the spec with what may be changed as it is in old.
func (c *checker) withoutMutable(old *corev1.PodSpec) *corev1.PodSpec {
	spec := c.spec.DeepCopy()
	if len(spec.InitContainers) == 0 {
		spec.InitContainers = nil // as it prints in Kubernetes
	}
	for i := range spec.Containers {
		spec.Containers[i].Image = old.Containers[i].Image
	}
	for i := range spec.InitContainers {
		spec.InitContainers[i].Image = old.InitContainers[i].Image
	}
	spec.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	spec.SchedulingGates = old.SchedulingGates
	spec.Tolerations = old.Tolerations
	if ptr.Deref(old.TerminationGracePeriodSeconds, 0) < 0 && ptr.Deref(spec.TerminationGracePeriodSeconds, 0) == 1 {
		spec.TerminationGracePeriodSeconds = old.TerminationGracePeriodSeconds
	}
	return spec
}

// sameContainers reports whether the number of containers is the same, after
// checking their images.
func (c *checker) sameContainers(path *field.Path, list, old []corev1.Container) bool {
	if len(list) != len(old) {
		c.forbidden(path, "pod updates may not add or remove containers")
		return false
	}
	for i := range list {
		if list[i].Image == "" {
			c.required(path.Index(i).Child("image"), "")
		}
		c.imageSpaces(path.Index(i), &list[i])
	}
	return true
}

// deadlineUpdate lets the deadline be set or shortened, and reports whether to
// go on.
func (c *checker) deadlineUpdate(path *field.Path, old *int64) bool {
	switch next := c.spec.ActiveDeadlineSeconds; {
	case next == nil && old != nil:
		c.invalid(path, next, "must not update from a positive integer to nil value")
	case next == nil:
	case *next < 0 || *next > math.MaxInt32:
		c.invalid(path, *next, validation.InclusiveRangeError(0, math.MaxInt32))
		return false
	case old != nil && *old < *next:
		c.invalid(path, *next, "must be less than or equal to previous value")
		return false
	}
	return true
}

// onlyRemovedGates refuses new gates. One that is there twice is named once.
func (c *checker) onlyRemovedGates(path *field.Path, old []corev1.PodSchedulingGate) {
	last := map[string]int{}
	for i, gate := range c.spec.SchedulingGates {
		last[gate.Name] = i
	}
	for _, gate := range old {
		delete(last, gate.Name)
	}
	for i, gate := range c.spec.SchedulingGates {
		if at, added := last[gate.Name]; added && at == i {
			c.forbidden(path.Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name))
		}
	}
}

// gatedUpdate lets a pod that is not scheduled yet become choosier about its
// node. It sets what it has judged in rest to what it is in old.
func (c *checker) gatedUpdate(path *field.Path, rest, old *corev1.PodSpec) {
	if !equality.Semantic.DeepEqual(rest.NodeSelector, old.NodeSelector) {
		for key, value := range old.NodeSelector {
			if v, ok := rest.NodeSelector[key]; !ok || v != value {
				c.invalid(path.Child("nodeSelector"), rest.NodeSelector,
					"only additions to spec.nodeSelector are allowed (no mutations or deletions)")
				break
			}
		}
		rest.NodeSelector = old.NodeSelector
	}
	var now, was *corev1.NodeAffinity
	if rest.Affinity != nil {
		now = rest.Affinity.NodeAffinity
	}
	if old.Affinity != nil {
		was = old.Affinity.NodeAffinity
	}
	if equality.Semantic.DeepEqual(now, was) {
		return
	}
	c.nodeAffinityUpdate(path.Child("affinity", "nodeAffinity", requiredTerms, "nodeSelectorTerms"), now, was)
	if rest.Affinity == nil {
		rest.Affinity = &corev1.Affinity{}
	}
	rest.Affinity.NodeAffinity = was
	if old.Affinity == nil && *rest.Affinity == (corev1.Affinity{}) {
		rest.Affinity = nil
	}
}

// nodeAffinityUpdate lets required terms grow by further requirements.
func (c *checker) nodeAffinityUpdate(path *field.Path, now, was *corev1.NodeAffinity) {
	if was == nil || was.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return
	}
	old := was.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	var terms []corev1.NodeSelectorTerm
	if now != nil && now.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		terms = now.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	if len(old) > 0 && len(old) != len(terms) {
		c.invalid(path, Internal(terms), "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
		return
	}
	for i := range old {
		if !termGrew(terms[i], old[i]) {
			c.invalid(path.Index(i), Internal(terms[i]), "only additions are allowed (no mutations or deletions)")
		}
	}
}

// termGrew reports whether a term has all requirements of old, in front. An
// empty term, which matches nothing, must stay empty.
func termGrew(term, old corev1.NodeSelectorTerm) bool {
	if len(old.MatchExpressions) == 0 && len(old.MatchFields) == 0 {
		return len(term.MatchExpressions) == 0 && len(term.MatchFields) == 0
	}
	starts := func(list, old []corev1.NodeSelectorRequirement) bool {
		return len(list) >= len(old) && equality.Semantic.DeepEqual(list[:len(old)], old)
	}
	return (len(old.MatchExpressions) == 0 || starts(term.MatchExpressions, old.MatchExpressions)) &&
		(len(old.MatchFields) == 0 || starts(term.MatchFields, old.MatchFields))
}
