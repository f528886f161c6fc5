package engine

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server"
)

// defaultRoles returns the roles and bindings that every Kubernetes cluster has: those
// of Kubernetes itself, so that what refers to "view", "cluster-admin" or
// "system:discovery" finds it. (Of those of controllers there are the ones that other servers ask
// about: else ours are no users of the API.)
func defaultRoles() map[change.Resource][]change.Object {
	all := map[change.Resource][]change.Object{}
	add := func(resource change.Resource, obj change.Object) { all[resource] = append(all[resource], obj) }
	for _, role := range bootstrappolicy.ClusterRoles() {
		add(kind.ClusterRoles, &role)
	}
	add(kind.ClusterRoles, metricsReader())
	for _, role := range bootstrappolicy.ControllerRoles() {
		if role.Name == ofNamespaces {
			add(kind.ClusterRoles, &role)
		}
	}
	for _, binding := range slices.Concat(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()) {
		if strings.HasPrefix(binding.Name, "system:controller:") && binding.Name != ofNamespaces {
			continue
		}
		add(kind.ClusterRoleBindings, &binding)
	}
	roles, bindings := bootstrappolicy.NamespaceRoles(), bootstrappolicy.NamespaceRoleBindings()
	for _, namespace := range slices.Sorted(maps.Keys(roles)) {
		for _, role := range roles[namespace] {
			add(kind.Roles, &role)
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(bindings)) {
		for _, binding := range bindings[namespace] {
			add(kind.RoleBindings, &binding)
		}
	}
	return all
}

// ofNamespaces is the role by which what the servers of aggregated APIs keep is deleted with its namespace.
const ofNamespaces = "system:controller:namespace-controller"

// metricsReader lets who may view pods see what they use. It comes with metrics-server, not with
// Kubernetes; so does the API that it is about.
func metricsReader() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{
			Name: "system:aggregated-metrics-reader",
			Labels: map[string]string{
				"rbac.authorization.k8s.io/aggregate-to-admin": "true",
				"rbac.authorization.k8s.io/aggregate-to-edit":  "true",
				"rbac.authorization.k8s.io/aggregate-to-view":  "true",
			},
		},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{"metrics.k8s.io"}, Resources: []string{string(kind.Pods), string(kind.Nodes)}, Verbs: []string{"get", "list", "watch"}}},
	}
}

// completed returns a stored default role or binding with what it lacks of today's, nil
// if that is nothing, or if its owner has said that it is to stay as it is. What he has
// added stays. (Kubernetes: auto-reconciliation) What others trust is as today's says.
func completed(stored, today change.Object) change.Object {
	if trust, ok := today.(*corev1.ConfigMap); ok && trust.Name == server.AuthenticationConfigName && !maps.Equal(trust.Data, stored.(*corev1.ConfigMap).Data) {
		next := stored.(*corev1.ConfigMap).DeepCopy()
		next.Data = trust.Data
		return next
	}
	if cidr, ok := today.(*networkingv1.ServiceCIDR); ok && !slices.Equal(cidr.Spec.CIDRs, stored.(*networkingv1.ServiceCIDR).Spec.CIDRs) {
		next := stored.(*networkingv1.ServiceCIDR).DeepCopy()
		next.Spec.CIDRs = cidr.Spec.CIDRs // it is another machine now, or has other families
		return next
	}
	if stored.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != "true" {
		return nil
	}
	next := stored.DeepCopyObject().(change.Object)
	changed := false
	switch next := next.(type) {
	case *rbacv1.ClusterRole:
		if next.AggregationRule == nil { // else its rules are gathered
			next.Rules, changed = withRules(next.Rules, today.(*rbacv1.ClusterRole).Rules)
		}
	case *rbacv1.Role:
		next.Rules, changed = withRules(next.Rules, today.(*rbacv1.Role).Rules)
	case *rbacv1.ClusterRoleBinding:
		next.Subjects, changed = withSubjects(next.Subjects, today.(*rbacv1.ClusterRoleBinding).Subjects)
	case *rbacv1.RoleBinding:
		next.Subjects, changed = withSubjects(next.Subjects, today.(*rbacv1.RoleBinding).Subjects)
	}
	if !changed {
		return nil
	}
	return next
}

func withRules(have, want []rbacv1.PolicyRule) (rules []rbacv1.PolicyRule, changed bool) {
	_, missing := validation.Covers(have, want)
	return append(have, missing...), len(missing) > 0
}

func withSubjects(have, want []rbacv1.Subject) (subjects []rbacv1.Subject, changed bool) {
	for _, s := range want {
		if !slices.Contains(have, s) {
			have, changed = append(have, s), true
		}
	}
	return have, changed
}
