package podspec

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Options are what ValidateTemplate must know beyond the template.
type Options struct {
	// Old is the spec that is replaced, nil on create. A rule that is younger
	// than the API is not held against a spec whose predecessor broke it too.
	Old *corev1.PodSpec
	// OldMeta is the metadata of Old's owner.
	OldMeta *metav1.ObjectMeta
}

// ValidateTemplate checks a pod template.
func ValidateTemplate(tpl *corev1.PodTemplateSpec, path *field.Path, opts Options) field.ErrorList {
	c := newChecker(&tpl.Spec, nil)
	c.add(metavalidation.ValidateLabels(tpl.Labels, path.Child("labels"))...)
	c.add(apivalidation.ValidateAnnotations(tpl.Annotations, path.Child("annotations"))...)
	c.annotations(tpl.Annotations, path.Child("annotations"))
	spec := path.Child("spec")
	c.podSpec(spec, false)
	c.seccompAnnotationsMatch(tpl.Annotations, spec)
	c.appArmorAnnotationsMatch(tpl.Annotations, spec)
	if len(tpl.Spec.EphemeralContainers) > 0 {
		c.forbidden(spec.Child("ephemeralContainers"), "ephemeral containers not allowed in pod template")
	}
	if opts.Old == nil {
		return c.errs
	}
	return c.result(func() *checker {
		old := newChecker(opts.Old, nil)
		if opts.OldMeta != nil {
			old.annotations(opts.OldMeta.Annotations, path.Child("annotations"))
		}
		old.podSpec(spec, false)
		return old
	})
}

// podSpec checks the spec, in the order in which Kubernetes reports.
func (c *checker) podSpec(path *field.Path, pod bool) {
	spec := c.spec
	if spec.TerminationGracePeriodSeconds == nil {
		c.required(path.Child("terminationGracePeriodSeconds"), "")
	}
	c.podVolumes(path.Child("volumes"))
	c.resourceClaims(path.Child("resourceClaims"))
	c.containers(path.Child("containers"))
	c.initContainers(path.Child("initContainers"))
	c.ephemeralContainers(path.Child("ephemeralContainers"))
	c.podResources(path.Child("resources"))
	c.hostNetworkPorts(path.Child("containers"), pod)
	requiredOneOf(c, path.Child("restartPolicy"), spec.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	c.dnsPolicy(path.Child("dnsPolicy"))
	c.add(metavalidation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))...)
	c.podSecurityContext(path.Child("securityContext"))
	c.sharedProcessNamespace(path.Child("shareProcessNamespace"))
	c.affinity(path.Child("affinity"))
	c.dnsConfig(path.Child("dnsConfig"))
	for i, gate := range spec.ReadinessGates {
		c.qualifiedName(path.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType))
	}
	c.schedulingGates(path.Child("schedulingGates"))
	c.topologySpread(path.Child("topologySpreadConstraints"))
	c.windowsHostProcess(path)
	c.hostUsers(path)
	c.hostnameOverride(path.Child("hostnameOverride"))
	c.names(path)
	c.tolerations(path.Child("tolerations"), spec.Tolerations)
	c.hostAliases(path.Child("hostAliases"))
	c.classes(path)
	c.operatingSystem(path)
	c.schedulingGroup(path.Child("schedulingGroup"))
	c.fileKeyVolumes(path)
}

// names checks the fields that name an object, a host or a time limit.
func (c *checker) names(path *field.Path) {
	spec := c.spec
	if spec.ServiceAccountName != "" {
		c.invalidEach(path.Child("serviceAccountName"), spec.ServiceAccountName,
			apivalidation.ValidateServiceAccountName(spec.ServiceAccountName, false))
	}
	if old := spec.DeprecatedServiceAccount; old != spec.ServiceAccountName {
		c.invalid(path.Child("deprecatedServiceAccount"), old,
			fmt.Sprintf("must be the same as serviceAccountName: %q", spec.ServiceAccountName))
	}
	if spec.NodeName != "" {
		c.dnsSubdomain(path.Child("nodeName"), spec.NodeName)
	}
	if spec.ActiveDeadlineSeconds != nil {
		if value := *spec.ActiveDeadlineSeconds; value < 1 || value > math.MaxInt32 {
			c.invalid(path.Child("activeDeadlineSeconds"), value, validation.InclusiveRangeError(1, math.MaxInt32))
		}
	}
	if spec.Hostname != "" {
		c.dnsLabel(path.Child("hostname"), spec.Hostname)
	}
	if spec.Subdomain != "" {
		c.dnsLabel(path.Child("subdomain"), spec.Subdomain)
	}
}

// classes checks the fields that choose how the pod is scheduled and run.
func (c *checker) classes(path *field.Path) {
	spec := c.spec
	if spec.PriorityClassName != "" {
		c.dnsSubdomain(path.Child("priorityClassName"), spec.PriorityClassName)
	}
	if spec.RuntimeClassName != nil {
		c.dnsSubdomain(path.Child("runtimeClassName"), *spec.RuntimeClassName)
	}
	if spec.PreemptionPolicy != nil {
		requiredOneOf(c, path.Child("preemptionPolicy"), *spec.PreemptionPolicy,
			corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	if spec.Overhead != nil {
		c.containerResources(path.Child("overhead"), &corev1.ResourceRequirements{Limits: spec.Overhead})
	}
}

// schedulingGates checks that gates have distinct, qualified names.
func (c *checker) schedulingGates(path *field.Path) {
	seen := map[string]bool{}
	for i, gate := range c.spec.SchedulingGates {
		c.qualifiedName(path.Index(i), gate.Name)
		if seen[gate.Name] {
			c.add(field.Duplicate(path.Index(i), gate.Name))
		}
		seen[gate.Name] = true
	}
}

func (c *checker) schedulingGroup(path *field.Path) {
	group := c.spec.SchedulingGroup
	if group == nil {
		return
	}
	if group.PodGroupName == nil {
		c.invalid(path.Child("podGroupName"), group.PodGroupName, "must specify one of: `podGroupName`")
	} else {
		c.dnsSubdomain(path.Child("podGroupName"), *group.PodGroupName)
	}
	if len(c.spec.EvictionResponders) > 0 {
		c.forbidden(path, "may not be set when evictionResponders is set")
	}
}
