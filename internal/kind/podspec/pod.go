package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What is checked of a pod is its annotations and its spec; its metadata is
// like any object's and the business of the kind room.

// ValidatePod checks a new pod.
func ValidatePod(pod *corev1.Pod) field.ErrorList {
	c := newChecker(&pod.Spec, &pod.ObjectMeta)
	c.pod()
	spec := field.NewPath("spec")
	if len(pod.Spec.EphemeralContainers) > 0 {
		c.forbidden(spec.Child("ephemeralContainers"), "cannot be set on create")
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		c.forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared")
	}
	c.seccompAnnotationsMatch(pod.Annotations, spec)
	c.appArmorAnnotationsMatch(pod.Annotations, spec)
	return c.errs
}

// pod checks what every pod must fulfil, new or changed.
func (c *checker) pod() {
	path := field.NewPath("spec")
	c.annotations(c.meta.Annotations, field.NewPath("metadata", "annotations"))
	c.podSpec(path, true)
	if c.spec.ServiceAccountName == "" {
		for i, v := range c.spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for j, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil {
					c.forbidden(path.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
						"must not be specified when serviceAccountName is not set")
				}
			}
		}
	}
	if s := c.spec.TerminationGracePeriodSeconds; s != nil {
		c.nonNegative(path.Child("terminationGracePeriodSeconds"), *s)
	}
	for i := range c.spec.Containers {
		c.imageSpaces(path.Child("containers").Index(i), &c.spec.Containers[i])
	}
	for i := range c.spec.InitContainers {
		c.imageSpaces(path.Child("initContainers").Index(i), &c.spec.InitContainers[i])
	}
}

// ValidateBinding checks a request to bind a pod to a node.
func ValidateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(path.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	return errs
}
