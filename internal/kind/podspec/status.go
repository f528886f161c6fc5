package podspec

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// SetCondition puts c among the pod's conditions; its transition time stays what it was
// when the status is the same. The conditions are changed in place.
func SetCondition(status *corev1.PodStatus, c corev1.PodCondition) {
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		*old = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}

// ValidatePodStatus checks a write of the status.
func ValidatePodStatus(pod, old *corev1.Pod) field.ErrorList {
	c := newChecker(&pod.Spec, &pod.ObjectMeta)
	c.annotationUpdates(old.Annotations)
	path := field.NewPath("status")
	s, was := &pod.Status, &old.Status
	c.conditions(path.Child("conditions"), s.Conditions)
	if pod.Spec.NodeName != old.Spec.NodeName {
		c.forbidden(path.Child("nodeName"), "may not be changed directly")
	}
	c.nominated(path.Child("nominatedNodeName"), s.NominatedNodeName, was.NominatedNodeName, old.Spec.NodeName)
	c.generation(path, s.ObservedGeneration)
	c.add(apivalidation.ValidateImmutableField(s.QOSClass, was.QOSClass, path.Child("qosClass"))...)
	c.transitions(path.Child("containerStatuses"), s.ContainerStatuses, was.ContainerStatuses, &old.Spec, old.Spec.Containers)
	c.transitions(path.Child("initContainerStatuses"), s.InitContainerStatuses, was.InitContainerStatuses, &old.Spec, old.Spec.InitContainers)
	c.transitions(path.Child("ephemeralContainerStatuses"), s.EphemeralContainerStatuses, was.EphemeralContainerStatuses, nil, nil)
	c.claimStatuses(path, s)
	c.podIPs(path.Child("podIPs"), s, was)
	c.hostIPs(path.Child("hostIPs"), s, was)
	c.users(path.Child("containerStatuses"), s.ContainerStatuses)
	c.users(path.Child("initContainerStatuses"), s.InitContainerStatuses)
	c.users(path.Child("ephemeralContainerStatuses"), s.EphemeralContainerStatuses)
	c.allocated(path.Child("containerStatuses"), s, s.ContainerStatuses, pod.Spec.Containers)
	c.allocated(path.Child("initContainerStatuses"), s, s.InitContainerStatuses, pod.Spec.InitContainers)
	for i, cs := range s.EphemeralContainerStatuses {
		if len(cs.AllocatedResourcesStatus) > 0 {
			c.forbidden(path.Child("ephemeralContainerStatuses").Index(i).Child("allocatedResourcesStatus"),
				"must not be specified in container status")
		}
	}
	return c.result(func() *checker {
		before := newChecker(&old.Spec, &old.ObjectMeta)
		before.annotations(old.Annotations, field.NewPath("metadata", "annotations"))
		return before
	})
}

func (c *checker) conditions(path *field.Path, list []corev1.PodCondition) {
	for i, cond := range list {
		c.generation(path.Index(i), cond.ObservedGeneration)
		switch cond.Type {
		case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized:
		default:
			c.qualifiedName(path.Index(i).Child("Type"), string(cond.Type))
		}
	}
}

func (c *checker) generation(path *field.Path, generation int64) {
	if generation < 0 {
		c.invalid(path.Child("observedGeneration"), generation, "must be a non-negative integer")
	}
}

func (c *checker) nominated(path *field.Path, node, was, bound string) {
	if node == was || node == "" {
		return
	}
	c.dnsSubdomain(path, node)
	if bound != "" {
		c.forbidden(path, "may not be set on pods that are already bound to a node")
	}
}

// transitions does not let a container run again that must not. spec is nil
// for ephemeral containers, which never do.
func (c *checker) transitions(path *field.Path, now, was []corev1.ContainerStatus, spec *corev1.PodSpec, containers []corev1.Container) {
	if spec != nil && restartsAll(spec) {
		return
	}
	for i, old := range was {
		if old.State.Terminated == nil {
			continue
		}
		j := slices.IndexFunc(now, func(s corev1.ContainerStatus) bool {
			return s.Name == old.Name && s.State.Terminated == nil
		})
		if j < 0 {
			continue
		}
		k := slices.IndexFunc(containers, func(ctr corev1.Container) bool { return ctr.Name == old.Name })
		if k < 0 || !shouldRestart(&containers[k], spec.RestartPolicy, old.State.Terminated.ExitCode) {
			c.forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state")
		}
	}
}

// restartsAll reports whether a container can make all others start again.
func restartsAll(spec *corev1.PodSpec) bool {
	found := false
	visitContainers(spec, nil, func(ctr *corev1.Container, _ *field.Path) {
		for _, r := range ctr.RestartPolicyRules {
			found = found || r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		}
	})
	return found
}

// claimStatuses checks which claims the pod got for what it asked.
func (c *checker) claimStatuses(path *field.Path, s *corev1.PodStatus) {
	seen := sets.New[string]()
	for i, claim := range s.ResourceClaimStatuses {
		at := path.Child("resourceClaimStatuses").Index(i)
		if !slices.ContainsFunc(c.spec.ResourceClaims, func(p corev1.PodResourceClaim) bool { return p.Name == claim.Name }) {
			c.invalid(at.Child("name"), claim.Name, "must match the name of an entry in `spec.resourceClaims`")
		}
		if seen.Has(claim.Name) {
			c.add(field.Duplicate(at.Child("name"), claim.Name))
		}
		seen.Insert(claim.Name)
		if name := claim.ResourceClaimName; name != nil {
			c.invalidEach(at.Child("resourceClaimName"), name, validation.IsDNS1123Subdomain(*name))
		}
	}
	if s.ExtendedResourceClaimStatus != nil {
		c.extendedClaim(path.Child("extendedResourceClaimStatus"), s.ExtendedResourceClaimStatus)
	}
}

func (c *checker) extendedClaim(path *field.Path, s *corev1.PodExtendedResourceClaimStatus) {
	containers := map[string]*corev1.Container{}
	for _, list := range [][]corev1.Container{c.spec.InitContainers, c.spec.Containers} {
		for i := range list {
			containers[list[i].Name] = &list[i]
		}
	}
	mappings := path.Child("requestMappings")
	if len(s.RequestMappings) == 0 {
		c.required(mappings, "at least one request mapping is required")
	}
	seen := map[corev1.ContainerExtendedResourceRequest]bool{}
	for i, m := range s.RequestMappings {
		at := mappings.Index(i)
		if ctr := containers[m.ContainerName]; ctr == nil {
			c.invalid(at.Child("containerName"), m.ContainerName,
				"must match the name of an entry in spec.initContainers.name or spec.containers.name")
		} else if _, ok := ctr.Resources.Requests[corev1.ResourceName(m.ResourceName)]; !ok {
			c.invalid(at.Child("resourceName"), m.ResourceName, "must match the extended resource name of an entry in "+
				"spec.initContainers.resources.requests or spec.containers.resources.requests")
		}
		c.dnsLabel(path.Child("requestName"), m.RequestName)
		if seen[m] {
			c.add(field.Duplicate(at.Child("containerName"), m.ContainerName),
				field.Duplicate(at.Child("resourceName"), m.ResourceName),
				field.Duplicate(at.Child("requestName"), m.RequestName))
		}
		seen[m] = true
	}
	if s.ResourceClaimName == "" {
		c.required(path.Child("resourceClaimName"), "")
	} else {
		c.dnsSubdomain(path.Child("resourceClaimName"), s.ResourceClaimName)
	}
}

// podIPs demands at most one address of each family, the first being podIP.
func (c *checker) podIPs(path *field.Path, s, was *corev1.PodStatus) {
	var ips, old []string
	for _, ip := range was.PodIPs {
		old = append(old, ip.IP)
	}
	for i, ip := range s.PodIPs {
		ips = append(ips, ip.IP)
		c.ip(path.Index(i), ip.IP, old)
	}
	c.oneOfEachFamily(path, ips, s.PodIPs)
	switch {
	case (s.PodIP != "") != (len(ips) > 0):
		c.invalid(path, Internal(s.PodIPs), "podIP and podIPs must either both be set or both be unset")
	case len(ips) > 0 && s.PodIP != ips[0]:
		c.invalid(path.Index(0).Child("ip"), ips[0], "must be equal to `podIP`")
	}
}

func (c *checker) hostIPs(path *field.Path, s, was *corev1.PodStatus) {
	if len(s.HostIPs) == 0 {
		return
	}
	if s.HostIP != s.HostIPs[0].IP {
		c.invalid(path.Index(0).Child("ip"), s.HostIPs[0].IP, "must be equal to `hostIP`")
	}
	var ips, old []string
	for _, ip := range was.HostIPs {
		old = append(old, ip.IP)
	}
	for i, ip := range s.HostIPs {
		ips = append(ips, ip.IP)
		c.ip(path.Index(i), ip.IP, old)
	}
	c.oneOfEachFamily(path, ips, s.HostIPs)
}

func (c *checker) oneOfEachFamily(path *field.Path, ips []string, value any) {
	if len(ips) < 2 {
		return
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		c.add(field.InternalError(path, fmt.Errorf("failed to check for dual stack with error:%v", err)))
	}
	if !dual || len(ips) > 2 {
		c.invalid(path, Internal(value), "may specify no more than one IP for each IP family")
	}
}

// users checks the users that containers were found to run as.
func (c *checker) users(path *field.Path, list []corev1.ContainerStatus) {
	windows := c.spec.OS != nil && c.spec.OS.Name == corev1.Windows
	for i, cs := range list {
		if cs.User == nil || cs.User.Linux == nil {
			continue
		}
		u, at := cs.User.Linux, path.Index(i).Child("user", "linux")
		if windows {
			c.forbidden(at, "cannot be set for a windows pod")
			continue
		}
		if u.UID < 0 || u.UID > math.MaxUint32 {
			c.invalid(at.Child("uid"), u.UID, fmt.Sprintf("must be between 0 and %d, inclusive", int64(math.MaxUint32)))
		}
		c.invalidEach(at.Child("gid"), u.GID, validation.IsValidGroupID(u.GID))
		for j, gid := range u.SupplementalGroups {
			c.invalidEach(at.Child("supplementalGroups").Index(j), gid, validation.IsValidGroupID(gid))
		}
	}
}

// allocated checks the health of the devices that containers got.
func (c *checker) allocated(path *field.Path, s *corev1.PodStatus, list []corev1.ContainerStatus, containers []corev1.Container) {
	for i, cs := range list {
		k := slices.IndexFunc(containers, func(ctr corev1.Container) bool { return ctr.Name == cs.Name })
		for j, res := range cs.AllocatedResourcesStatus {
			at := path.Index(i).Child("allocatedResourcesStatus").Index(j)
			if k >= 0 {
				c.allocatedName(at.Child("name"), res.Name, &containers[k], s.ExtendedResourceClaimStatus)
			}
			c.health(at.Child("resources"), res.Resources)
		}
	}
}

func (c *checker) allocatedName(path *field.Path, name corev1.ResourceName, ctr *corev1.Container, ext *corev1.PodExtendedResourceClaimStatus) {
	claim, isClaim := strings.CutPrefix(string(name), "claim:")
	if !isClaim {
		if _, ok := ctr.Resources.Requests[name]; !ok {
			c.invalid(path, name, "must match one of the container's resource requests")
		}
		return
	}
	for _, own := range ctr.Resources.Claims {
		if claim == own.Name && own.Request == "" || own.Request != "" && claim == own.Name+"/"+own.Request {
			return
		}
	}
	if claim, request, ok := strings.Cut(claim, "/"); ok && request != "" && ext != nil && claim == ext.ResourceClaimName {
		for _, m := range ext.RequestMappings {
			q := ctr.Resources.Requests[corev1.ResourceName(m.ResourceName)]
			if m.ContainerName == ctr.Name && m.RequestName == request && !q.IsZero() {
				return
			}
		}
	}
	c.invalid(path, name, "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' "+
		"when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty")
}

func (c *checker) health(path *field.Path, list []corev1.ResourceHealth) {
	seen := sets.New[corev1.ResourceID]()
	for i, r := range list {
		at := path.Index(i)
		oneOf(c, at.Child("health"), r.Health, corev1.ResourceHealthStatusHealthy,
			corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)
		if m := r.Message; m != nil && *m == "" {
			c.required(at.Child("message"), "must be non-empty if specified")
		} else if m != nil && len(*m) > corev1.ResourceHealthMessageMaxLength {
			c.add(field.TooLong(at.Child("message"), *m, corev1.ResourceHealthMessageMaxLength))
		}
		if seen.Has(r.ResourceID) {
			c.add(field.Duplicate(at.Child("resourceID"), r.ResourceID))
		}
		seen.Insert(r.ResourceID)
	}
}
