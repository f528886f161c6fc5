package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	helper "k8s.io/component-helpers/resource"
)

// isHugePages reports whether name is a size of huge pages.
func isHugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// isNative reports whether name is Kubernetes' own: without a domain, or with
// one under kubernetes.io.
func isNative(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// IsExtended reports whether name is a resource that a node advertises by
// itself: of a foreign domain, and fit to be named in a quota.
func IsExtended(name corev1.ResourceName) bool {
	if isNative(name) || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// allowsOvercommit reports whether more of name may be limited than requested.
func allowsOvercommit(name corev1.ResourceName) bool {
	return isNative(name) && !isHugePages(name)
}

// countsUnits reports whether there are only whole units of name.
func countsUnits(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return IsExtended(name)
}

// isStandard reports whether the system knows name, in a container or a quota.
func isStandard(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceRequestsStorage, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
		corev1.ResourceLimitsEphemeralStorage, corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices,
		corev1.ResourceReplicationControllers, corev1.ResourceSecrets, corev1.ResourceConfigMaps,
		corev1.ResourcePersistentVolumeClaims, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return isHugePages(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// resourceName checks a name, and reports whether it is one at all.
func (c *checker) resourceName(path *field.Path, name corev1.ResourceName) bool {
	before := len(c.errs)
	c.invalidEach(path, name, validation.IsQualifiedName(string(name)))
	if len(c.errs) == before && !strings.Contains(string(name), "/") && !isStandard(name) {
		c.invalid(path, name, "must be a standard resource type or fully qualified")
	}
	return len(c.errs) == before
}

// containerResourceName checks the name of what a container asks for.
func (c *checker) containerResourceName(path *field.Path, name corev1.ResourceName) {
	c.resourceName(path, name)
	switch {
	case !strings.Contains(string(name), "/"):
		if !isCompute(name) && name != corev1.ResourceEphemeralStorage && !isHugePages(name) {
			c.invalid(path, name, "must be a standard resource for containers")
		}
	case !isNative(name) && !IsExtended(name):
		c.invalid(path, name, "doesn't follow extended resource name standard")
	}
}

// podResourceName checks the name of what a pod as a whole asks for.
func (c *checker) podResourceName(path *field.Path, name corev1.ResourceName) {
	if c.resourceName(path, name) && !helper.IsSupportedPodLevelResource(name) {
		c.add(field.NotSupported(path, name, sets.List(helper.SupportedPodLevelResources())))
	}
}
