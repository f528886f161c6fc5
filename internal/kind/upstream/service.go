package upstream

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	serviceapi "k8s.io/kubernetes/pkg/api/service"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/registry/core/service"
	netutils "k8s.io/utils/net"
)

// Service is the strategy of Services, for a cluster that has addresses of these families, of which the
// first is what a Service gets that asks for none. Besides
// what Kubernetes' strategy does it fills in what depends on other fields, or on what was
// there before: Kubernetes does this in the storage of Services, before the strategy is
// asked. The addresses and ports themselves are not given here, as nobody here knows which
// are free.
func Service(families ...corev1.IPFamily) Strategy {
	own := make(clusterFamilies, len(families))
	for i, f := range families {
		own[i] = core.IPFamily(f)
	}
	return serviceStrategy{service.Strategy, own}
}

// resetting is a strategy that says which fields it resets.
type resetting interface {
	Strategy
	rest.ResetFieldsStrategy
}

type serviceStrategy struct {
	resetting
	families clusterFamilies
}

// clusterFamilies are the families of addresses that Services of a cluster may have.
type clusterFamilies []core.IPFamily

func (c clusterFamilies) has(family core.IPFamily) bool { return slices.Contains(c, family) }

// PrepareForCreate overrides Kubernetes'.
func (s serviceStrategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	svc := obj.(*core.Service)
	normalizeClusterIPs(svc, nil)
	s.families.prepare(svc, nil)
	dropTrafficPolicy(svc)
	s.resetting.PrepareForCreate(ctx, obj)
}

// PrepareForUpdate overrides Kubernetes'.
func (s serviceStrategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	svc, before := obj.(*core.Service), old.(*core.Service)
	keepAllocated(svc, before)
	normalizeClusterIPs(svc, before)
	s.families.prepare(svc, before)
	dropTrafficPolicy(svc)
	s.resetting.PrepareForUpdate(ctx, obj, old)
}

// Validate overrides Kubernetes'.
func (s serviceStrategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	svc := allocated(obj)
	if errs := s.families.init(svc, nil); len(errs) > 0 {
		return errs
	}
	return s.resetting.Validate(ctx, svc)
}

// ValidateUpdate overrides Kubernetes'.
func (s serviceStrategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	svc := allocated(obj)
	if errs := s.families.init(svc, old.(*core.Service)); len(errs) > 0 {
		return errs
	}
	return s.resetting.ValidateUpdate(ctx, svc, old)
}

// dropTrafficPolicy: a name elsewhere has no traffic here. Kubernetes keeps what was said,
// and leaves it out when the Service is read.
func dropTrafficPolicy(svc *core.Service) {
	if svc.Spec.Type == core.ServiceTypeExternalName {
		svc.Spec.InternalTrafficPolicy = nil
	}
}

// allocated returns a copy of a Service with the one port that validation demands and that
// is given only when the object is stored.
func allocated(obj runtime.Object) *core.Service {
	svc := obj.(*core.Service).DeepCopy()
	if serviceapi.NeedsHealthCheck(svc) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = 1
	}
	return svc
}

// normalizeClusterIPs makes clusterIPs agree with clusterIP, for clients that know only
// the latter; old is nil if the Service is new.
func normalizeClusterIPs(svc, old *core.Service) {
	if old == nil {
		if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
		}
		return
	}
	same := slices.Equal(old.Spec.ClusterIPs, svc.Spec.ClusterIPs)
	switch {
	case old.Spec.ClusterIP == svc.Spec.ClusterIP:
		if len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	case !same: // the client has changed both: validation says whether they agree
	case svc.Spec.ClusterIP == "":
		svc.Spec.ClusterIPs = nil
	default:
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
}

// keepAllocated gives an update what was given to the Service before, and what the client
// leaves out, so that the manifest of the creation can be sent again.
func keepAllocated(svc, old *core.Service) {
	if needsClusterIP(old) && needsClusterIP(svc) {
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if needsNodePort(old) && needsNodePort(svc) {
		keepNodePorts(svc, old)
	}
	if serviceapi.NeedsHealthCheck(old) && serviceapi.NeedsHealthCheck(svc) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// keepNodePorts gives each port that asks for no node port the one that the port of the
// same name had, unless another has it now.
func keepNodePorts(svc, old *core.Service) {
	had, taken := map[string]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		had[p.Name] = p.NodePort
	}
	for _, p := range svc.Spec.Ports {
		taken[p.NodePort] = true
	}
	for i := range svc.Spec.Ports {
		if p := &svc.Spec.Ports[i]; p.NodePort == 0 && !taken[had[p.Name]] {
			p.NodePort = had[p.Name]
		}
	}
}

func needsClusterIP(svc *core.Service) bool { return svc.Spec.Type != core.ServiceTypeExternalName }

func needsNodePort(svc *core.Service) bool {
	if svc.Spec.Type == core.ServiceTypeLoadBalancer {
		allocate := svc.Spec.AllocateLoadBalancerNodePorts
		return allocate == nil || *allocate
	}
	return svc.Spec.Type == core.ServiceTypeNodePort
}

// prepare is init for a Service in which all is right. What is wrong, Validate says, of what the client has sent.
func (c clusterFamilies) prepare(svc, old *core.Service) {
	if next := svc.DeepCopy(); len(c.init(next, old)) == 0 {
		svc.Spec = next.Spec
	}
}

// init fills in ipFamilyPolicy and ipFamilies, or says why what the client wants
// of them cannot be; old is nil if the Service is new. It is Kubernetes' initIPFamilyFields.
func (c clusterFamilies) init(svc, old *core.Service) field.ErrorList {
	if !needsClusterIP(svc) || keepsPreference(svc, old) {
		return nil
	}
	spec := &svc.Spec
	headless := spec.ClusterIP == core.ClusterIPNone && len(spec.Selector) == 0
	if spec.IPFamilyPolicy == nil {
		policy := core.IPFamilyPolicySingleStack
		switch {
		case old != nil && old.Spec.IPFamilyPolicy != nil:
			policy = *old.Spec.IPFamilyPolicy
		case headless:
			policy = core.IPFamilyPolicyRequireDualStack
		}
		spec.IPFamilyPolicy = &policy
	}
	if errs := validation.ValidateServiceClusterIPsRelatedFields(svc, old); len(errs) > 0 {
		return errs
	}
	errs := familiesFit(svc, old)
	for i, ip := range spec.ClusterIPs {
		if ip == core.ClusterIPNone {
			break
		}
		if i < len(spec.IPFamilies) {
			continue
		}
		family := core.IPv4Protocol
		if netutils.IsIPv6String(ip) {
			family = core.IPv6Protocol
		}
		if !c.has(family) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), spec.ClusterIPs,
				fmt.Sprintf("%s is not configured on this cluster", family)))
			continue
		}
		spec.IPFamilies = append(spec.IPFamilies, family)
	}
	switch {
	case len(errs) > 0:
		return errs
	case headless:
		c.initHeadless(spec)
		return nil
	}
	return c.assign(spec)
}

// keepsPreference reports whether an update leaves all as it is that a Service with
// PreferDualStack has of families: it is not made another by what the cluster has.
func keepsPreference(svc, old *core.Service) bool {
	const prefer = core.IPFamilyPolicyPreferDualStack
	return old != nil && svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == prefer &&
		(old.Spec.IPFamilyPolicy == nil || *old.Spec.IPFamilyPolicy == prefer) && old.Spec.Type == svc.Spec.Type &&
		slices.Equal(old.Spec.ClusterIPs, svc.Spec.ClusterIPs) && slices.Equal(old.Spec.IPFamilies, svc.Spec.IPFamilies)
}

// familiesFit holds the policy against the families and addresses that are asked for, and
// takes away what a policy of one family has too many.
func familiesFit(svc, old *core.Service) (errs field.ErrorList) {
	spec, path := &svc.Spec, field.NewPath("spec", "ipFamilyPolicy")
	single := *spec.IPFamilyPolicy == core.IPFamilyPolicySingleStack
	fault := func(is bool, message string) {
		if is {
			errs = append(errs, field.Invalid(path, spec.IPFamilyPolicy, message))
		}
	}
	if old != nil && single {
		if slices.Equal(old.Spec.ClusterIPs, spec.ClusterIPs) && len(spec.ClusterIPs) > 1 {
			spec.ClusterIPs = spec.ClusterIPs[:1]
		}
		if slices.Equal(old.Spec.IPFamilies, spec.IPFamilies) && len(spec.IPFamilies) > 1 {
			spec.IPFamilies = spec.IPFamilies[:1]
		}
	}
	if old != nil && !single {
		fault(len(spec.ClusterIPs) > 0 && len(spec.ClusterIPs) < len(old.Spec.ClusterIPs), "must be 'SingleStack' to release the secondary cluster IP")
		fault(len(spec.IPFamilies) > 0 && len(spec.IPFamilies) < len(old.Spec.IPFamilies), "must be 'SingleStack' to release the secondary IP family")
	}
	fault(single && len(spec.ClusterIPs) == 2, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified")
	fault(single && len(spec.IPFamilies) == 2, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified")
	return errs
}

// initHeadless fills in the families of a Service without address and selector, which may
// have both: what its endpoints are is up to whoever writes them.
func (c clusterFamilies) initHeadless(spec *core.ServiceSpec) {
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []core.IPFamily{c[0]}
	}
	if len(spec.IPFamilies) > 1 || *spec.IPFamilyPolicy == core.IPFamilyPolicySingleStack {
		return
	}
	spec.IPFamilies = append(spec.IPFamilies, otherThan(spec.IPFamilies[0]))
}

func otherThan(family core.IPFamily) core.IPFamily {
	if family == core.IPv6Protocol {
		return core.IPv4Protocol
	}
	return core.IPv6Protocol
}

// assign gives a Service families of the cluster's, and refuses others.
func (c clusterFamilies) assign(spec *core.ServiceSpec) (errs field.ErrorList) {
	if *spec.IPFamilyPolicy == core.IPFamilyPolicyRequireDualStack && len(c) < 2 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range spec.IPFamilies {
		if !c.has(family) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []core.IPFamily{c[0]}
	}
	if other := otherThan(spec.IPFamilies[0]); len(spec.IPFamilies) == 1 && *spec.IPFamilyPolicy != core.IPFamilyPolicySingleStack && c.has(other) {
		spec.IPFamilies = append(spec.IPFamilies, other)
	}
	return nil
}
