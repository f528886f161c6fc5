package control

import (
	"context"
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

// Others are other servers that keep objects: those of aggregated APIs.
type Others interface {
	// Undiscovered returns why it is not known of all of them what they serve, in the words of the
	// condition; "" if it is.
	Undiscovered() string
	// Empty deletes what they keep in a namespace. It returns the finalizers of each object that is left,
	// by resource, and why what was not deleted.
	Empty(ctx context.Context, namespace string) (left map[change.Resource][][]string, failures []string)
}

// namespaceController empties namespaces that are being deleted. others, if there are any, are asked for
// what they keep.
func namespaceController(kinds *kind.Kinds, others Others) Controller {
	k := kinds.ByResource(kind.Namespaces)
	decide := func(said sweep.Others) Decision {
		return func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return sweep.Namespace(now, sweep.Item{Kind: k, Object: obj}, contents(view, kinds, key.Name), view.Unread(key.Name), said)
		}
	}
	c := Controller{
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
			case ev.Key.Resource == kind.APIServices:
				for ns := range view.List(k.Resource, "") {
					if ns.GetDeletionTimestamp() != nil {
						add(k.KeyOf(ns))
					}
				}
			}
		},
		Decide: decide(sweep.Others{}),
	}
	if others != nil {
		c.Ask = func(ctx context.Context, view change.View, key change.Key, wait func() error) (Decision, error) {
			said, err := askOthers(ctx, others, view, key, wait)
			return decide(said), err
		}
	}
	return c
}

// askOthers asks others for what they keep in a namespace, if there are any, it is being deleted, and its
// pods have gone.
func askOthers(ctx context.Context, others Others, view change.View, key change.Key, wait func() error) (said sweep.Others, err error) {
	ns, ok := view.Get(key)
	if !ok || ns.GetDeletionTimestamp() == nil || !aggregated(view) {
		return said, nil
	}
	said.Undiscovered = others.Undiscovered()
	for range view.List(kind.Pods, key.Name) {
		said.Unasked = true
		return said, nil
	}
	if err := wait(); err != nil {
		return said, err
	}
	said.Left, said.Failures = others.Empty(ctx, key.Name)
	return said, nil
}

// aggregated reports whether other servers answer for a part of the API.
func aggregated(view change.View) bool {
	for obj := range view.List(kind.APIServices, "") {
		if kind.ServedElsewhere(obj) {
			return true
		}
	}
	return false
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
