package server

import (
	"context"
	"errors"
	"fmt"
	"iter"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacregistry "k8s.io/kubernetes/pkg/registry/rbac"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"

	"github.com/sampan-batch/sampan/internal/access"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// storedRoles is the policy that the roles and bindings in the store make. Each
// request sees the state of its time.
type storedRoles struct{ store *store.Store }

// Grants implements access.Policy.
func (s storedRoles) Grants(u access.User, namespace string) iter.Seq2[access.Grant, error] {
	return access.Roles(access.Stored(s.store.View())).Grants(u, namespace)
}

// mayGive refuses a role or a binding that gives somebody what who writes it does not
// have. old is nil if it is new; not even then is obj complete, or valid.
func (r *resource) mayGive(ctx context.Context, view *store.View, obj, old change.Object) error {
	rights := r.kind.Rights
	if rights == nil || rbacregistry.EscalationAllowed(ctx) {
		return nil
	}
	if old != nil && rbacregistry.IsOnlyMutatingGCFields(obj, old, equality.Semantic) || r.explicitly(ctx, rights, obj) {
		return nil
	}
	rules, err := given(rights, access.Stored(view), obj, genericapirequest.NamespaceValue(ctx))
	if err != nil {
		return err
	}
	if err := validation.ConfirmNoEscalation(ctx, r.gate, rules); err != nil {
		return apierrors.NewForbidden(r.gr, obj.GetName(), err)
	}
	if gathers(rights, obj, old) && validation.ConfirmNoEscalation(ctx, r.gate, everything()) != nil {
		return apierrors.NewForbidden(r.gr, obj.GetName(), errors.New("must have cluster-admin privileges to use the aggregationRule"))
	}
	return nil
}

// gathers: the role gathers the rules of others, or did: to stop that takes as much, as
// what is gathered would no longer be taken back when others lose it.
func gathers(rights *kind.Rights, obj, old change.Object) bool {
	return rights.Aggregates != nil && (rights.Aggregates(obj) || old != nil && rights.Aggregates(old))
}

// given are the rules that an object of a namespace gives.
func given(rights *kind.Rights, in access.Objects, obj change.Object, namespace string) ([]rbacv1.PolicyRule, error) {
	if rights.RoleRef == nil {
		return rights.Rules(obj), nil
	}
	return access.RulesOf(in, rights.RoleRef(obj), namespace)
}

// explicitly: somebody has said that this user may give more than he has.
func (r *resource) explicitly(ctx context.Context, rights *kind.Rights, obj change.Object) bool {
	if rights.RoleRef == nil {
		return rbacregistry.RoleEscalationAuthorized(ctx, r.gate)
	}
	ref := rights.RoleRef(obj)
	namespace := metav1.NamespaceNone
	if r.kind.Namespaced {
		namespace = genericapirequest.NamespaceValue(ctx)
	}
	return rbacregistry.BindingAuthorized(ctx, rbac.RoleRef{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}, namespace, r.gate)
}

func everything() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
		{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
	}
}

// The gate answers Kubernetes' check for escalation (validation.AuthorizationRuleResolver).
var _ validation.AuthorizationRuleResolver = &gate{}

// RulesFor returns the rules of roles that apply to a user, as far as they are found. (What an
// administrator may do is no rule of a role, in Kubernetes neither: he may give anything.)
func (g *gate) RulesFor(_ context.Context, u user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var failed []error
	for grant, err := range g.roles.Grants(userOf(u), namespace) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		rules = append(rules, *grant.Rule)
	}
	return rules, utilerrors.NewAggregate(failed)
}

// VisitRulesFor is not asked.
func (g *gate) VisitRulesFor(context.Context, user.Info, string, func(fmt.Stringer, *rbacv1.PolicyRule, error) bool) {
	panic("server: rules are not visited")
}

// GetRoleReferenceRules is not asked.
func (g *gate) GetRoleReferenceRules(context.Context, rbacv1.RoleRef, string) ([]rbacv1.PolicyRule, error) {
	panic("server: rules of roles are the rows' to know")
}
