// Package review serves what is asked, and never stored: who somebody is
// (authentication.k8s.io), and what he may do (authorization.k8s.io).
//
// The answers are those of Kubernetes' own storages. They work on types of their own, as in
// kube-apiserver, so that these two groups have a scheme of their own here: it is made with the
// groups, when somebody first asks for one of them, and a start does not pay for it.
//
// It decides nothing: who is believed, and who may do what, is asked of those who decide it for the
// requests themselves.
package review

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kubernetes/pkg/apis/authentication"
	authentication1 "k8s.io/kubernetes/pkg/apis/authentication/v1"
	"k8s.io/kubernetes/pkg/apis/authorization"
	authorization1 "k8s.io/kubernetes/pkg/apis/authorization/v1"
	"k8s.io/kubernetes/pkg/registry/authentication/selfsubjectreview"
	"k8s.io/kubernetes/pkg/registry/authentication/tokenreview"
	"k8s.io/kubernetes/pkg/registry/authorization/localsubjectaccessreview"
	"k8s.io/kubernetes/pkg/registry/authorization/selfsubjectaccessreview"
	"k8s.io/kubernetes/pkg/registry/authorization/selfsubjectrulesreview"
	"k8s.io/kubernetes/pkg/registry/authorization/subjectaccessreview"
)

// GroupVersions are what is served.
func GroupVersions() []schema.GroupVersion {
	return []schema.GroupVersion{authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion}
}

// Options are whom the reviews ask.
type Options struct {
	// Tokens tells whose a bearer token is. It answers to requests that have nothing but the token, not
	// even a path.
	Tokens    authenticator.Request
	Audiences authenticator.Audiences
	// Gate is what each request has to pass.
	Gate authorizer.UnconditionalAuthorizer
	// Rules returns the rules of roles that apply to a user in a namespace, as far as they are found.
	Rules func(ctx context.Context, u user.Info, namespace string) ([]rbacv1.PolicyRule, error)
}

// Groups returns the two groups.
func Groups(o Options) ([]*genericserver.APIGroupInfo, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, fmt.Errorf("reviews: %w", err)
	}
	group := func(gv schema.GroupVersion, storage map[string]rest.Storage) *genericserver.APIGroupInfo {
		return &genericserver.APIGroupInfo{
			PrioritizedVersions:          scheme.PrioritizedVersionsForGroup(gv.Group),
			VersionedResourcesStorageMap: map[string]map[string]rest.Storage{gv.Version: storage},
			OptionsExternalVersion:       &schema.GroupVersion{Version: "v1"},
			Scheme:                       scheme,
			NegotiatedSerializer:         serializer.NewCodecFactory(scheme),
			ParameterCodec:               runtime.NewParameterCodec(scheme),
		}
	}
	return []*genericserver.APIGroupInfo{
		group(authenticationv1.SchemeGroupVersion, map[string]rest.Storage{
			"tokenreviews":       tokenreview.NewREST(o.Tokens, o.Audiences),
			"selfsubjectreviews": selfsubjectreview.NewREST(),
		}),
		group(authorizationv1.SchemeGroupVersion, map[string]rest.Storage{
			"subjectaccessreviews":      subjectaccessreview.NewREST(o.Gate, scheme),
			"localsubjectaccessreviews": localsubjectaccessreview.NewREST(o.Gate, scheme),
			"selfsubjectaccessreviews":  selfsubjectaccessreview.NewREST(o.Gate, scheme),
			"selfsubjectrulesreviews":   selfsubjectrulesreview.NewREST(rules(o.Rules)),
		}),
	}, nil
}

// newScheme returns the types of the two groups, with Kubernetes' conversions, defaults and
// validations.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"}) // options, and the errors that answer
	for _, add := range []func(*runtime.Scheme) error{
		authentication.AddToScheme, authentication1.AddToScheme, authorization.AddToScheme, authorization1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// rules lists rules in the form in which the storage asks for them. (RBACAuthorizer.RulesFor)
type rules func(ctx context.Context, u user.Info, namespace string) ([]rbacv1.PolicyRule, error)

// RulesFor implements authorizer.RuleResolver.
func (r rules) RulesFor(ctx context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	found, err := r(ctx, u, namespace)
	var resources []authorizer.ResourceRuleInfo
	var paths []authorizer.NonResourceRuleInfo
	for i := range found {
		rule := &found[i]
		if len(rule.Resources) > 0 {
			resources = append(resources, &authorizer.DefaultResourceRuleInfo{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames})
		}
		if len(rule.NonResourceURLs) > 0 {
			paths = append(paths, &authorizer.DefaultNonResourceRuleInfo{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return resources, paths, false, err
}
