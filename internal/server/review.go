package server

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/sampan-batch/sampan/internal/access"
)

// addReviewTypes registers the types that are asked about, and never stored.
func (s *Server) addReviewTypes() error {
	for _, add := range []func(*runtime.Scheme) error{authorizationv1.AddToScheme, authenticationv1.AddToScheme} {
		if err := add(s.scheme); err != nil {
			return fmt.Errorf("server: review types: %w", err)
		}
	}
	// The library converts every request to its group's internal version.
	for _, obj := range []runtime.Object{
		&authorizationv1.SelfSubjectAccessReview{}, &authorizationv1.SelfSubjectRulesReview{},
		&authorizationv1.SubjectAccessReview{}, &authorizationv1.LocalSubjectAccessReview{},
	} {
		s.scheme.AddKnownTypes(schema.GroupVersion{Group: authorizationv1.GroupName, Version: runtime.APIVersionInternal}, obj)
	}
	s.scheme.AddKnownTypes(schema.GroupVersion{Group: authenticationv1.GroupName, Version: runtime.APIVersionInternal},
		&authenticationv1.SelfSubjectReview{}, &authenticationv1.TokenRequest{})
	return nil
}

// accessReviews answers "may I?" (kubectl auth can-i).
func accessReviews(g *gate) map[string]rest.Storage {
	return map[string]rest.Storage{
		"selfsubjectaccessreviews": &review{name: "selfsubjectaccessreview", create: func(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
			r := obj.(*authorizationv1.SelfSubjectAccessReview)
			u, _ := genericapirequest.UserFrom(ctx)
			var err error
			r.Status, err = g.review(ctx, u, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes,
				schema.GroupKind{Group: authorizationv1.GroupName, Kind: "SelfSubjectAccessReview"})
			return r, err
		}, empty: func() runtime.Object { return &authorizationv1.SelfSubjectAccessReview{} }},
		"subjectaccessreviews": &review{name: "subjectaccessreview", create: func(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
			r := obj.(*authorizationv1.SubjectAccessReview)
			if r.Spec.User == "" && len(r.Spec.Groups) == 0 {
				return nil, apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: "SubjectAccessReview"}, "", field.ErrorList{
					field.Invalid(field.NewPath("spec.user"), r.Spec.User, "at least one of user or group must be specified")})
			}
			var err error
			r.Status, err = g.review(ctx, &user.DefaultInfo{Name: r.Spec.User, Groups: r.Spec.Groups, UID: r.Spec.UID},
				r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes,
				schema.GroupKind{Group: authorizationv1.GroupName, Kind: "SubjectAccessReview"})
			return r, err
		}, empty: func() runtime.Object { return &authorizationv1.SubjectAccessReview{} }},
		"selfsubjectrulesreviews": &review{name: "selfsubjectrulesreview", create: g.rules,
			empty: func() runtime.Object { return &authorizationv1.SelfSubjectRulesReview{} }},
	}
}

// selfReview answers "who am I?" (kubectl auth whoami).
func (sh *shared) selfReview() map[string]rest.Storage {
	return map[string]rest.Storage{
		"selfsubjectreviews": &review{name: "selfsubjectreview", create: func(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
			u, ok := genericapirequest.UserFrom(ctx)
			if !ok {
				return nil, apierrors.NewBadRequest("no user present on request")
			}
			extra := make(map[string]authenticationv1.ExtraValue, len(u.GetExtra()))
			for k, v := range u.GetExtra() {
				extra[k] = v
			}
			return &authenticationv1.SelfSubjectReview{
				ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(sh.now())},
				Status: authenticationv1.SelfSubjectReviewStatus{UserInfo: authenticationv1.UserInfo{
					Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: extra,
				}},
			}, nil
		}, empty: func() runtime.Object { return &authenticationv1.SelfSubjectReview{} }},
	}
}

// review answers a review as the request itself would be.
func (g *gate) review(ctx context.Context, u user.Info, res *authorizationv1.ResourceAttributes,
	path *authorizationv1.NonResourceAttributes, gk schema.GroupKind) (authorizationv1.SubjectAccessReviewStatus, error) {
	record := authorizer.AttributesRecord{User: u}
	switch {
	case (res == nil) == (path == nil):
		what := "cannot be specified in combination with nonResourceAttributes"
		if res == nil {
			what = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
		}
		return authorizationv1.SubjectAccessReviewStatus{}, apierrors.NewInvalid(gk, "", field.ErrorList{
			field.Invalid(field.NewPath("spec.resourceAttributes"), res, what)})
	case res != nil:
		record.Verb, record.Namespace, record.Name = res.Verb, res.Namespace, res.Name
		record.APIGroup, record.APIVersion = res.Group, res.Version
		record.Resource, record.Subresource, record.ResourceRequest = res.Resource, res.Subresource, true
	default:
		record.Verb, record.Path = path.Verb, path.Path
	}
	decision, reason, err := g.Authorize(ctx, record)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow,
		Denied:  decision == authorizer.DecisionDeny,
		Reason:  reason,
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status, nil
}

// rules lists what the caller may do.
func (g *gate) rules(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	r := obj.(*authorizationv1.SelfSubjectRulesReview)
	if r.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	u, _ := genericapirequest.UserFrom(ctx)
	r.Status = access.Review(g.policy, userOf(u), r.Spec.Namespace)
	return r, nil
}

// review is a resource that can only be created, and is answered, not stored.
type review struct {
	name   string
	empty  func() runtime.Object
	create func(ctx context.Context, obj runtime.Object) (runtime.Object, error)
}

var _ interface {
	rest.Storage
	rest.Creater
	rest.Scoper
	rest.SingularNameProvider
} = &review{}

// New implements rest.Storage.
func (r *review) New() runtime.Object { return r.empty() }

// Destroy implements rest.Storage.
func (r *review) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (r *review) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider.
func (r *review) GetSingularName() string { return r.name }

// Create answers the review.
func (r *review) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	if validate != nil {
		if err := validate(ctx, obj); err != nil {
			return nil, err
		}
	}
	return r.create(ctx, obj)
}
