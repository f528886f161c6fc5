package kind

import (
	"fmt"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/rbac"
	upstream "k8s.io/kubernetes/pkg/apis/rbac/v1"
	"k8s.io/kubernetes/pkg/apis/rbac/validation"

	"github.com/sampan-batch/sampan/internal/change"
)

// The rules of roles and bindings are Kubernetes' own code (ADR 10).

// Role is the row of rbac.authorization.k8s.io/v1 roles.
func Role() *Kind {
	read := internal(upstream.Convert_v1_Role_To_rbac_Role)
	return &Kind{
		Names:  rbacNames(Roles, "Role", true),
		Types:  Types{New: func() Object { return &rbacv1.Role{} }, NewList: func() runtime.Object { return &rbacv1.RoleList{} }},
		Create: Create{Validate: checks(func(r *rbacv1.Role) field.ErrorList { return validation.ValidateRole(read(r)) })},
		Update: Update{
			MayCreate: true,
			Validate: checksUpdate(func(r, old *rbacv1.Role) field.ErrorList {
				return validation.ValidateRoleUpdate(read(r), read(old))
			}),
		},
		Table: roleTable(),
		Rights: &Rights{
			Rules: func(obj Object) []rbacv1.PolicyRule { return obj.(*rbacv1.Role).Rules },
		},
	}
}

// ClusterRole is the row of rbac.authorization.k8s.io/v1 clusterroles.
func ClusterRole() *Kind {
	read := internal(upstream.Convert_v1_ClusterRole_To_rbac_ClusterRole)
	return &Kind{
		Names: rbacNames(ClusterRoles, "ClusterRole", false),
		Types: Types{New: func() Object { return &rbacv1.ClusterRole{} }, NewList: func() runtime.Object { return &rbacv1.ClusterRoleList{} }},
		Create: Create{Validate: checks(func(r *rbacv1.ClusterRole) field.ErrorList {
			return validation.ValidateClusterRole(read(r), validation.ClusterRoleValidationOptions{})
		})},
		Update: Update{
			MayCreate: true,
			Validate: checksUpdate(func(r, old *rbacv1.ClusterRole) field.ErrorList {
				return validation.ValidateClusterRoleUpdate(read(r), read(old), validation.ClusterRoleValidationOptions{
					AllowInvalidLabelValueInSelector: hasInvalidSelector(read(old)),
				})
			}),
		},
		Table: roleTable(),
		Rights: &Rights{
			Rules: func(obj Object) []rbacv1.PolicyRule { return obj.(*rbacv1.ClusterRole).Rules },
			Aggregates: func(obj Object) bool {
				rule := obj.(*rbacv1.ClusterRole).AggregationRule
				return rule != nil && len(rule.ClusterRoleSelectors) > 0
			},
		},
	}
}

// RoleBinding is the row of rbac.authorization.k8s.io/v1 rolebindings.
func RoleBinding() *Kind {
	read := internal(upstream.Convert_v1_RoleBinding_To_rbac_RoleBinding)
	return &Kind{
		Names: rbacNames(RoleBindings, "RoleBinding", true),
		Types: Types{
			New: func() Object { return &rbacv1.RoleBinding{} }, NewList: func() runtime.Object { return &rbacv1.RoleBindingList{} },
			Default: changes(upstream.SetObjectDefaults_RoleBinding),
		},
		Create: Create{Validate: checks(func(b *rbacv1.RoleBinding) field.ErrorList { return validation.ValidateRoleBinding(read(b)) })},
		Update: Update{
			MayCreate: true,
			Validate: checksUpdate(func(b, old *rbacv1.RoleBinding) field.ErrorList {
				return validation.ValidateRoleBindingUpdate(read(b), read(old))
			}),
		},
		Table: Printer{
			Columns: bindingColumns(rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"], "roleBinding"),
			Cells: prints(func(b *rbacv1.RoleBinding, now time.Time) []any {
				return bindingCells(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
			}),
		},
		Rights: &Rights{RoleRef: func(obj Object) rbacv1.RoleRef { return obj.(*rbacv1.RoleBinding).RoleRef }},
	}
}

// ClusterRoleBinding is the row of rbac.authorization.k8s.io/v1 clusterrolebindings.
func ClusterRoleBinding() *Kind {
	read := internal(upstream.Convert_v1_ClusterRoleBinding_To_rbac_ClusterRoleBinding)
	return &Kind{
		Names: rbacNames(ClusterRoleBindings, "ClusterRoleBinding", false),
		Types: Types{
			New: func() Object { return &rbacv1.ClusterRoleBinding{} }, NewList: func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
			Default: changes(upstream.SetObjectDefaults_ClusterRoleBinding),
		},
		Create: Create{Validate: checks(func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
			return validation.ValidateClusterRoleBinding(read(b))
		})},
		Update: Update{
			MayCreate: true,
			Validate: checksUpdate(func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
				return validation.ValidateClusterRoleBindingUpdate(read(b), read(old))
			}),
		},
		Table: Printer{
			Columns: bindingColumns(rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], "clusterRoleBinding"),
			Cells: prints(func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
				return bindingCells(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
			}),
		},
		Rights: &Rights{RoleRef: func(obj Object) rbacv1.RoleRef { return obj.(*rbacv1.ClusterRoleBinding).RoleRef }},
	}
}

func rbacNames(resource change.Resource, kind string, namespaced bool) Names {
	return Names{Resource: resource, Singular: strings.ToLower(kind), Namespaced: namespaced, GVK: rbacv1.SchemeGroupVersion.WithKind(kind)}
}

// internal returns a view of a versioned object as the type that Kubernetes validates.
// The two share what they point to, so that it is to be read only.
func internal[V, I any](convert func(*V, *I, conversion.Scope) error) func(*V) *I {
	return func(v *V) *I {
		i := new(I)
		if err := convert(v, i, nil); err != nil {
			panic(fmt.Sprintf("kind: convert %T: %v", v, err)) // their fields are the same
		}
		return i
	}
}

// hasInvalidSelector: a role that was accepted once may keep what is refused today.
func hasInvalidSelector(old *rbac.ClusterRole) bool {
	return len(validation.ValidateClusterRole(old, validation.ClusterRoleValidationOptions{})) > 0 &&
		len(validation.ValidateClusterRole(old, validation.ClusterRoleValidationOptions{AllowInvalidLabelValueInSelector: true})) == 0
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
