package control

import (
	"iter"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sampan-batch/sampan/internal/access"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// aggregationController gives ClusterRoles with an aggregationRule the rules of those
// that this selects.
func aggregationController() Controller {
	all := func(view change.View) iter.Seq[*rbacv1.ClusterRole] {
		return func(yield func(*rbacv1.ClusterRole) bool) {
			for obj := range view.List(kind.ClusterRoles, "") {
				if !yield(obj.(*rbacv1.ClusterRole)) {
					return
				}
			}
		}
	}
	return Controller{
		Name: "clusterrole-aggregation",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			if ev.Key.Resource != kind.ClusterRoles {
				return
			}
			for role := range all(view) {
				if role.AggregationRule != nil {
					add(kind.ClusterRoles.Key("", role.Name))
				}
			}
		},
		Decide: func(_ time.Time, view change.View, key change.Key, _ error) change.Set {
			var set change.Set
			obj, ok := view.Get(key)
			if !ok {
				return set
			}
			role := obj.(*rbacv1.ClusterRole)
			rules, ok := access.Aggregate(role, func() iter.Seq[*rbacv1.ClusterRole] { return all(view) })
			if ok && !equality.Semantic.DeepEqual(rules, role.Rules) {
				next := role.DeepCopy()
				next.Rules = rules
				set.Update(key, change.RevOf(role), next)
			}
			return set
		},
	}
}
