package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	helper "k8s.io/component-helpers/resource"
)

// containerResources checks the resources of one container.
func (c *checker) containerResources(path *field.Path, r *corev1.ResourceRequirements) {
	c.resources(path, r, c.containerResourceName)
}

// resources checks limits, requests and claims; name checks a resource's name.
func (c *checker) resources(path *field.Path, r *corev1.ResourceRequirements, name func(*field.Path, corev1.ResourceName)) {
	limits, requests := path.Child("limits"), path.Child("requests")
	huge, compute := false, false
	for _, res := range sortedKeys(r.Limits) {
		c.quantity(limits.Key(string(res)), res, r.Limits[res], name)
		c.pages(limits.Key(string(res)), res, r.Limits[res])
		huge, compute = huge || isHugePages(res), compute || isCompute(res)
	}
	for _, res := range sortedKeys(r.Requests) {
		request := r.Requests[res]
		c.quantity(requests.Key(string(res)), res, request, name)
		limit, limited := r.Limits[res]
		switch {
		case !limited && !allowsOvercommit(res):
			c.required(limits, "Limit must be set for non overcommitable resources")
		case limited && !allowsOvercommit(res) && request.Cmp(limit) != 0:
			c.invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", res, limit.String()))
		case limited && request.Cmp(limit) > 0:
			c.invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", res, limit.String()))
		}
		c.pages(requests.Key(string(res)), res, request)
		huge, compute = huge || isHugePages(res), compute || isCompute(res)
	}
	if huge && !compute {
		c.forbidden(path, "HugePages require cpu or memory")
	}
	c.claimNames(path.Child("claims"), r.Claims)
}

// quantity checks the name and amount of one resource.
func (c *checker) quantity(path *field.Path, res corev1.ResourceName, q resource.Quantity, name func(*field.Path, corev1.ResourceName)) {
	name(path, res)
	if q.Sign() < 0 {
		c.invalid(path, q.String(), apivalidation.IsNegativeErrorMsg)
	}
	if countsUnits(res) && q.MilliValue()%1000 != 0 {
		c.invalid(path, q, "must be an integer")
	}
}

// pages demands a number of whole huge pages.
func (c *checker) pages(path *field.Path, res corev1.ResourceName, q resource.Quantity) {
	if isHugePages(res) && !wholePages(res, q) {
		c.addRule(ruleHugePagesMultiple, field.Invalid(path, q.String(),
			fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), res)))
	}
}

// wholePages reports whether q is a number of pages of the size in res.
func wholePages(res corev1.ResourceName, q resource.Quantity) bool {
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(res), corev1.ResourceHugePagesPrefix))
	return err == nil && size.Sign() > 0 && size.MilliValue()%1000 == 0 && size.Value() > 0 && q.Value()%size.Value() == 0
}

// isCompute reports whether res decides the pod's quality of service.
func isCompute(res corev1.ResourceName) bool {
	return res == corev1.ResourceCPU || res == corev1.ResourceMemory
}

// claimNames demands that claims are the pod's, each at most once: as a whole,
// or by distinct requests.
func (c *checker) claimNames(path *field.Path, claims []corev1.ResourceClaim) {
	taken := sets.New[string]()
	for i, claim := range claims {
		at := path.Index(i)
		if claim.Name == "" {
			c.required(at, "")
			continue
		}
		if taken.Has(claim.Name) {
			c.add(field.Duplicate(at, claim.Name))
		} else {
			key := claim.Name
			if claim.Request != "" {
				c.dnsLabel(at.Child("request"), claim.Request)
				key += "/" + claim.Request
			}
			if taken.Has(key) {
				c.add(field.Duplicate(at, key))
			} else if claim.Request == "" {
				for other := range taken {
					if strings.HasPrefix(other, claim.Name+"/") {
						c.add(field.Duplicate(at, claim.Name))
					}
				}
			}
			taken.Insert(key)
		}
		if !c.claims.Has(claim.Name) {
			err := field.NotFound(at, claim.Name)
			err.Detail = "must be one of the names in pod.spec.resourceClaims"
			if len(c.claims) == 0 {
				err.Detail += " which is empty"
			} else {
				err.Detail += ": " + strings.Join(sets.List(c.claims), ", ")
			}
			c.add(err)
		}
	}
}

// resourceClaims checks the claims of the pod.
func (c *checker) resourceClaims(path *field.Path) {
	c.claims = sets.New[string]()
	for _, claim := range c.spec.ResourceClaims {
		if claim.Name != "" {
			c.claims.Insert(claim.Name)
		}
	}
	seen := sets.New[string]()
	for i, claim := range c.spec.ResourceClaims {
		at := path.Index(i)
		if c.meta != nil {
			if _, ok := c.meta.Annotations[corev1.MirrorPodAnnotationKey]; ok {
				c.forbidden(field.NewPath(""), "static pods do not support resource claims")
				continue
			}
		}
		switch {
		case claim.Name == "":
			c.required(at.Child("name"), "")
		case seen.Has(claim.Name):
			c.add(field.Duplicate(at.Child("name"), claim.Name))
		default:
			c.dnsLabel(at.Child("name"), claim.Name)
			seen.Insert(claim.Name)
		}
		name, template := claim.ResourceClaimName, claim.ResourceClaimTemplateName
		if name != nil && template != nil {
			c.invalid(at, Internal(claim), "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
		}
		if name == nil && template == nil {
			c.invalid(at, Internal(claim), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
		}
		if name != nil {
			c.dnsSubdomain(at.Child("resourceClaimName"), *name)
		}
		if template != nil {
			c.dnsSubdomain(at.Child("resourceClaimTemplateName"), *template)
		}
	}
}

// podResources checks the resources of the pod as a whole.
func (c *checker) podResources(path *field.Path) {
	r := c.spec.Resources
	if r == nil {
		return
	}
	if c.spec.OS != nil && c.spec.OS.Name == corev1.Windows {
		c.forbidden(path, "may not be set for a windows pod")
		return
	}
	if r.Claims != nil {
		c.forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level")
	}
	c.resources(path, r, c.podResourceName)
	c.podResourcesFit(path, r)
}

// podResourcesFit demands that the containers fit into the pod.
func (c *checker) podResourcesFit(path *field.Path, r *corev1.ResourceRequirements) {
	pod := &corev1.Pod{Spec: *c.spec}
	requests := helper.AggregateContainerRequests(pod, helper.PodResourcesOptions{})
	for _, name := range sortedKeys(requests) {
		sum := requests[name]
		if q, ok := r.Requests[name]; ok && sum.Cmp(q) > 0 {
			c.invalid(path.Child("requests").Key(string(name)), q.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String()))
		}
	}
	limits := helper.AggregateContainerLimits(pod, helper.PodResourcesOptions{})
	for _, name := range sortedKeys(limits) {
		sum := limits[name]
		if q, ok := r.Limits[name]; ok && isHugePages(name) && sum.Cmp(q) > 0 {
			c.invalid(path.Child("limits").Key(string(name)), q.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", sum.String()))
		}
	}
	for i := range c.spec.Containers {
		own := c.spec.Containers[i].Resources.Limits
		for _, name := range sortedKeys(own) {
			limit := own[name]
			if q, ok := r.Limits[name]; ok && limit.Cmp(q) > 0 {
				c.invalid(path.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", q.String()))
			}
		}
	}
}

// resizePolicy checks what a change of resources does to a running container.
func (c *checker) resizePolicy(path *field.Path, list []corev1.ContainerResizePolicy) {
	seen := map[corev1.ResourceName]bool{}
	for i, p := range list {
		if seen[p.ResourceName] {
			c.add(field.Duplicate(path.Index(i), p.ResourceName))
		}
		seen[p.ResourceName] = true
		requiredOneOf(c, path, p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)
		requiredOneOf(c, path, p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)
		if c.spec.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			c.invalid(path, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")
		}
	}
}
