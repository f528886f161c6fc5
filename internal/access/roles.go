package access

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Objects are the roles and bindings of one state of the API.
type Objects interface {
	ClusterRoleBindings() iter.Seq[*rbacv1.ClusterRoleBinding]
	RoleBindings(namespace string) iter.Seq[*rbacv1.RoleBinding]
	ClusterRole(name string) (*rbacv1.ClusterRole, bool)
	Role(namespace, name string) (*rbacv1.Role, bool)
}

// Roles is the Policy that roles and bindings make: RBAC. What it says is in
// Kubernetes' words (pkg/registry/rbac/validation/rule.go there).
func Roles(o Objects) Policy { return roles{o} }

type roles struct{ Objects }

// Grants implements Policy.
func (o roles) Grants(u User, namespace string) iter.Seq2[Grant, error] {
	return func(yield func(Grant, error) bool) {
		for b := range o.ClusterRoleBindings() {
			if !o.grant(yield, u, binding{"ClusterRoleBinding", b.Name, "", b.RoleRef, b.Subjects}) {
				return
			}
		}
		if namespace == "" {
			return
		}
		for b := range o.RoleBindings(namespace) {
			if !o.grant(yield, u, binding{"RoleBinding", b.Name + "/" + b.Namespace, namespace, b.RoleRef, b.Subjects}) {
				return
			}
		}
	}
}

// binding is one of either kind.
type binding struct {
	kind, name, namespace string
	role                  rbacv1.RoleRef
	subjects              []rbacv1.Subject
}

// grant yields the rules that a binding gives to a user; false: that is enough.
func (o roles) grant(yield func(Grant, error) bool, u User, b binding) bool {
	i := slices.IndexFunc(b.subjects, func(s rbacv1.Subject) bool { return is(u, &s, b.namespace) })
	if i < 0 {
		return true
	}
	rules, err := RulesOf(o, b.role, b.namespace)
	if err != nil {
		return yield(Grant{}, err)
	}
	by := fmt.Sprintf("RBAC: allowed by %s %q of %s %q to %s", b.kind, b.name, b.role.Kind, b.role.Name, describe(&b.subjects[i], b.namespace))
	for n := range rules {
		if !yield(Grant{Rule: &rules[n], By: by}, nil) {
			return false
		}
	}
	return true
}

// RulesOf returns the rules of the role that a binding of a namespace names; "" is that
// of a ClusterRoleBinding. They are not to be modified.
func RulesOf(o Objects, role rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch role.Kind {
	case "Role":
		if r, ok := o.Role(namespace, role.Name); ok {
			return r.Rules, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "role"}, role.Name)
	case "ClusterRole":
		if r, ok := o.ClusterRole(role.Name); ok {
			return r.Rules, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterrole"}, role.Name)
	}
	return nil, fmt.Errorf("unsupported role reference kind: %q", role.Kind)
}

// is reports whether a subject of a binding of a namespace is the user, or one of his
// groups.
func is(u User, s *rbacv1.Subject, namespace string) bool {
	switch s.Kind {
	case rbacv1.UserKind:
		return u.Name == s.Name
	case rbacv1.GroupKind:
		return slices.Contains(u.Groups, s.Name)
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		return namespace != "" && accountIs(u.Name, namespace, s.Name)
	}
	return false
}

// accountIs: the user is that ServiceAccount, without making the name for each that
// it is compared with.
func accountIs(user, namespace, name string) bool {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return false
	}
	rest, ok = strings.CutPrefix(rest, namespace)
	return ok && len(rest) == len(name)+1 && rest[0] == ':' && rest[1:] == name
}

// describe is how Kubernetes names a subject in a reason, with an account's name in
// front of its namespace.
func describe(s *rbacv1.Subject, namespace string) string {
	name := s.Name
	if s.Kind == rbacv1.ServiceAccountKind {
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		name += "/" + namespace
	}
	return fmt.Sprintf("%s %q", s.Kind, name)
}

// Aggregate returns the rules that a ClusterRole gathers from those that its
// aggregationRule selects; all yields these in the order of their names. ok is false if
// it gathers none.
func Aggregate(role *rbacv1.ClusterRole, all func() iter.Seq[*rbacv1.ClusterRole]) (rules []rbacv1.PolicyRule, ok bool) {
	if role.AggregationRule == nil {
		return nil, false
	}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, false // as it was accepted once; Kubernetes leaves it, too
		}
		for other := range all() {
			if other.Name == role.Name || !selector.Matches(labels.Set(other.Labels)) {
				continue
			}
			for _, rule := range other.Rules {
				if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return rules, true
}
