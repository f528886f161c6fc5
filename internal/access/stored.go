package access

import (
	"iter"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Stored returns the roles and bindings of a state.
func Stored(state kind.Getter) Objects { return stored{state} }

type stored struct{ kind.Getter }

func (s stored) ClusterRoleBindings() iter.Seq[*rbacv1.ClusterRoleBinding] {
	return typed[*rbacv1.ClusterRoleBinding](s.List(kind.ClusterRoleBindings, ""))
}

func (s stored) RoleBindings(namespace string) iter.Seq[*rbacv1.RoleBinding] {
	return typed[*rbacv1.RoleBinding](s.List(kind.RoleBindings, namespace))
}

func (s stored) ClusterRole(name string) (*rbacv1.ClusterRole, bool) {
	obj, ok := s.Get(kind.ClusterRoles.Key("", name))
	if !ok {
		return nil, false
	}
	return obj.(*rbacv1.ClusterRole), true
}

func (s stored) Role(namespace, name string) (*rbacv1.Role, bool) {
	obj, ok := s.Get(kind.Roles.Key(namespace, name))
	if !ok {
		return nil, false
	}
	return obj.(*rbacv1.Role), true
}

func typed[T kind.Object](objects iter.Seq[kind.Object]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for obj := range objects {
			if !yield(obj.(T)) {
				return
			}
		}
	}
}
