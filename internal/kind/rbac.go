package kind

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1" // whose words Kubernetes' printers have
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"

	"github.com/sampan-batch/sampan/internal/change"
)

// Role is the row of rbac.authorization.k8s.io/v1 roles.
func Role() *Kind {
	k := kubernetes[rbacv1.Role, rbacv1.RoleList](rbacNames(Roles, "Role"), role.Strategy, nil)
	k.Rights = &Rights{Rules: func(obj Object) []rbacv1.PolicyRule { return obj.(*rbacv1.Role).Rules }}
	k.Table = roleTable()
	return k
}

// ClusterRole is the row of rbac.authorization.k8s.io/v1 clusterroles.
func ClusterRole() *Kind {
	k := kubernetes[rbacv1.ClusterRole, rbacv1.ClusterRoleList](rbacNames(ClusterRoles, "ClusterRole"), clusterrole.Strategy, nil)
	k.Rights = &Rights{
		Rules: func(obj Object) []rbacv1.PolicyRule { return obj.(*rbacv1.ClusterRole).Rules },
		Aggregates: func(obj Object) bool {
			rule := obj.(*rbacv1.ClusterRole).AggregationRule
			return rule != nil && len(rule.ClusterRoleSelectors) > 0
		},
	}
	k.Table = roleTable()
	return k
}

// RoleBinding is the row of rbac.authorization.k8s.io/v1 rolebindings.
func RoleBinding() *Kind {
	k := kubernetes[rbacv1.RoleBinding, rbacv1.RoleBindingList](rbacNames(RoleBindings, "RoleBinding"), rolebinding.Strategy, nil)
	k.Rights = &Rights{RoleRef: func(obj Object) rbacv1.RoleRef { return obj.(*rbacv1.RoleBinding).RoleRef }}
	k.Table = Printer{
		Columns: bindingColumns(rbacv1beta1.RoleBinding{}.SwaggerDoc()["roleRef"], "roleBinding"),
		Cells: prints(func(b *rbacv1.RoleBinding, now time.Time) []any {
			return bindingCells(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
		}),
	}
	return k
}

// ClusterRoleBinding is the row of rbac.authorization.k8s.io/v1 clusterrolebindings.
func ClusterRoleBinding() *Kind {
	k := kubernetes[rbacv1.ClusterRoleBinding, rbacv1.ClusterRoleBindingList](rbacNames(ClusterRoleBindings, "ClusterRoleBinding"), clusterrolebinding.Strategy, nil)
	k.Rights = &Rights{RoleRef: func(obj Object) rbacv1.RoleRef { return obj.(*rbacv1.ClusterRoleBinding).RoleRef }}
	k.Table = Printer{
		Columns: bindingColumns(rbacv1beta1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], "clusterRoleBinding"),
		Cells: prints(func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
			return bindingCells(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
		}),
	}
	return k
}

func rbacNames(resource change.Resource, kind string) Names {
	return Names{Resource: resource, Singular: strings.ToLower(kind), GVK: rbacv1.SchemeGroupVersion.WithKind(kind)}
}

// roleTable is what Kubernetes prints of kinds that it prints nothing special of.
func roleTable() Printer {
	return Printer{
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Created At", "date", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"])},
		Cells: func(obj Object, _ time.Time) []any {
			return []any{obj.GetName(), obj.GetCreationTimestamp().UTC().Format(time.RFC3339)}
		},
	}
}

func bindingColumns(roleRef, of string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), column("Role", "string", roleRef), ageColumn(),
		wideColumn("Users", "string", "Users in the "+of), wideColumn("Groups", "string", "Groups in the "+of),
		wideColumn("ServiceAccounts", "string", "ServiceAccounts in the "+of),
	}
}

func bindingCells(meta *metav1.ObjectMeta, role rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	users, groups, accounts := []string{}, []string{}, []string{}
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		}
	}
	return []any{meta.Name, role.Kind + "/" + role.Name, age(meta.CreationTimestamp, now),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", ")}
}
