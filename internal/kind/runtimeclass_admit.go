package kind

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// admitRuntimeClass gives a new pod the overhead, the node selector and the tolerations of its runtime
// class. Those that nodes run are there whether or not they have an object; a pod of another class waits on
// its node, which says that it has no such runtime.
func admitRuntimeClass(spec *corev1.PodSpec, others Getter) error {
	class := &nodev1.RuntimeClass{}
	if name := spec.RuntimeClassName; name != nil {
		if found, ok := others.Get(RuntimeClasses.Key("", *name)); ok {
			class = found.(*nodev1.RuntimeClass)
		} else if !slices.Contains(RuntimeClassNames(), *name) {
			return fmt.Errorf("pod rejected: RuntimeClass %q not found", *name)
		}
	}
	switch {
	case class.Overhead == nil && spec.Overhead != nil:
		return errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	case class.Overhead == nil:
	case len(spec.Overhead) > 0 && !equality.Semantic.DeepEqual(class.Overhead.PodFixed, spec.Overhead):
		return errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	default:
		spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return nil
	}
	selector := class.Scheduling.NodeSelector
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if own, ok := spec.NodeSelector[key]; ok && own != selector[key] {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, selector[key], key, own)
		}
	}
	if len(selector) > 0 && spec.NodeSelector == nil {
		spec.NodeSelector = make(map[string]string, len(selector))
	}
	maps.Copy(spec.NodeSelector, selector)
	spec.Tolerations = mergeTolerations(spec.Tolerations, class.Scheduling.Tolerations)
	return nil
}

// mergeTolerations leaves out of both lists what another one of them says, too: Kubernetes' rule.
func mergeTolerations(first, second []corev1.Toleration) []corev1.Toleration {
	all := slices.Concat(first, second)
	var merged []corev1.Toleration
	for i := range all {
		t := &all[i]
		said := slices.ContainsFunc(merged, func(by corev1.Toleration) bool { return coveredBy(t, &by) }) ||
			slices.ContainsFunc(all[i+1:], func(by corev1.Toleration) bool {
				return !equality.Semantic.DeepEqual(t, &by) && coveredBy(t, &by) // of two that are equal, the first stays
			})
		if !said {
			merged = append(merged, *t)
		}
	}
	return merged
}

// coveredBy reports whether a toleration tolerates all that t does.
func coveredBy(t, by *corev1.Toleration) bool {
	if equality.Semantic.DeepEqual(t, by) {
		return true
	}
	exists := by.Operator == corev1.TolerationOpExists
	switch {
	case t.Key != by.Key && (by.Key != "" || !exists), t.Effect != by.Effect && by.Effect != "":
		return false
	case by.Effect == corev1.TaintEffectNoExecute && by.TolerationSeconds != nil &&
		(t.TolerationSeconds == nil || *t.TolerationSeconds > *by.TolerationSeconds):
		return false
	case by.Operator == corev1.TolerationOpEqual || by.Operator == "":
		return t.Operator == corev1.TolerationOpEqual && t.Value == by.Value
	}
	return exists
}
