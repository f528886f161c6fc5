package control

import (
	"iter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// accountController gives namespaces their default accounts.
func accountController(kinds *kind.Kinds, plan sweep.Plan) Controller {
	k := kinds.ByResource(kind.Namespaces)
	return Controller{
		Name: "serviceaccount",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			switch {
			case ev.Key.Resource == kind.Namespaces && ev.Op != change.Delete:
				add(ev.Key)
			case ev.Key.Resource == kind.ServiceAccounts && ev.Op == change.Delete && ev.Key.Name == kind.DefaultAccount:
				add(k.Key("", ev.Key.Namespace))
			}
		},
		Decide: func(_ time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			has, _ := view.Get(kind.ServiceAccounts.Key(key.Name, kind.DefaultAccount))
			account, _ := has.(*corev1.ServiceAccount)
			return plan.Furnish(obj.(*corev1.Namespace), account)
		},
	}
}

// publishController tells namespaces the authority of the API.
func publishController(kinds *kind.Kinds, plan sweep.Plan) Controller {
	k := kinds.ByResource(kind.Namespaces)
	return Controller{
		Name: "root-ca-cert-publisher",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			switch {
			case ev.Key.Resource == kind.Namespaces && ev.Op != change.Delete:
				add(ev.Key)
			case ev.Key.Resource == kind.ConfigMaps && ev.Key.Name == kind.RootCAName:
				add(k.Key("", ev.Key.Namespace))
			}
		},
		Decide: func(_ time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			has, _ := view.Get(kind.ConfigMaps.Key(key.Name, kind.RootCAName))
			ca, _ := has.(*corev1.ConfigMap)
			return plan.Publish(obj.(*corev1.Namespace), ca)
		},
	}
}

// namespaceController empties namespaces that are being deleted.
func namespaceController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.Namespaces)
	return Controller{
		Name: "namespace",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch {
			case ev.Key.Resource == kind.Namespaces:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case ev.Op == change.Delete && ev.Key.Namespace != "":
				ns, ok := view.Get(k.Key("", ev.Key.Namespace))
				if ok && ns.GetDeletionTimestamp() != nil {
					add(k.Key("", ev.Key.Namespace))
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return sweep.Namespace(now, sweep.Item{Kind: k, Object: obj}, contents(view, kinds, key.Name), view.Unread(key.Name))
		},
	}
}

// contents yields everything in a namespace.
func contents(view change.View, kinds *kind.Kinds, namespace string) iter.Seq[sweep.Item] {
	return func(yield func(sweep.Item) bool) {
		for _, k := range kinds.All() {
			if !k.Namespaced {
				continue
			}
			for obj := range view.List(k.Resource, namespace) {
				if !yield(sweep.Item{Kind: k, Object: obj}) {
					return
				}
			}
		}
	}
}
