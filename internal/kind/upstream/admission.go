package upstream

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/resolver"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
)

// perRequest is a strategy that is another one for each request: where Kubernetes asks for
// something without the context of the request. Embedded is the one without a request.
type perRequest struct {
	Strategy
	of func(*Request) Strategy
}

// forEach returns what makes a strategy, with and without a request. Without one nobody has to be
// kept from reading parameters.
func forEach(make func(authorizer.UnconditionalAuthorizer, resolver.ResourceResolver, policies) Strategy) Strategy {
	unknown := resolver.ResourceResolverFunc(func(gvk schema.GroupVersionKind) (schema.GroupVersionResource, error) {
		return schema.GroupVersionResource{}, &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
	})
	return perRequest{Strategy: make(nil, unknown, policies{}), of: func(req *Request) Strategy {
		return make(req.Authorizer, resolver.ResourceResolverFunc(req.Resource), policies{req})
	}}
}

// ValidatingAdmissionPolicy are the strategies of such policies, and of their status.
func ValidatingAdmissionPolicy() (write, status Strategy) {
	write = forEach(func(a authorizer.UnconditionalAuthorizer, r resolver.ResourceResolver, _ policies) Strategy {
		return validatingadmissionpolicy.NewStrategy(a, r)
	})
	return write, validatingadmissionpolicy.NewStatusStrategy(validatingadmissionpolicy.NewStrategy(nil, nil))
}

// ValidatingAdmissionPolicyBinding is the strategy of their bindings.
func ValidatingAdmissionPolicyBinding() Strategy {
	return forEach(func(a authorizer.UnconditionalAuthorizer, r resolver.ResourceResolver, p policies) Strategy {
		return validatingadmissionpolicybinding.NewStrategy(a, p, r)
	})
}

// MutatingAdmissionPolicy is the strategy of such policies.
func MutatingAdmissionPolicy() Strategy {
	return forEach(func(a authorizer.UnconditionalAuthorizer, r resolver.ResourceResolver, _ policies) Strategy {
		return mutatingadmissionpolicy.NewStrategy(a, r)
	})
}

// MutatingAdmissionPolicyBinding is the strategy of their bindings.
func MutatingAdmissionPolicyBinding() Strategy {
	return forEach(func(a authorizer.UnconditionalAuthorizer, r resolver.ResourceResolver, p policies) Strategy {
		return mutatingadmissionpolicybinding.NewStrategy(a, p, r)
	})
}

// policies are those that a request sees.
type policies struct{ req *Request }

func (p policies) get(resource, name string) (runtime.Object, error) {
	if p.req != nil {
		if obj, found := p.req.Policy(resource, name); found {
			return internal(obj), nil
		}
	}
	return nil, apierrors.NewNotFound(admissionregistration.Resource(resource), name)
}

// GetValidatingAdmissionPolicy implements validatingadmissionpolicybinding.PolicyGetter.
func (p policies) GetValidatingAdmissionPolicy(_ context.Context, name string) (*admissionregistration.ValidatingAdmissionPolicy, error) {
	obj, err := p.get("validatingadmissionpolicies", name)
	if err != nil {
		return nil, err
	}
	return obj.(*admissionregistration.ValidatingAdmissionPolicy), nil
}

// GetMutatingAdmissionPolicy implements mutatingadmissionpolicybinding.PolicyGetter.
func (p policies) GetMutatingAdmissionPolicy(_ context.Context, name string) (*admissionregistration.MutatingAdmissionPolicy, error) {
	obj, err := p.get("mutatingadmissionpolicies", name)
	if err != nil {
		return nil, err
	}
	return obj.(*admissionregistration.MutatingAdmissionPolicy), nil
}
