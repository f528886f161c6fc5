package control

import (
	"iter"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// namespaceController gives namespaces their default ServiceAccount, and empties
// those that are being deleted.
func namespaceController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(namespaces)
	return Controller{
		Name: "namespace",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch {
			case ev.Key.Resource == namespaces:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case ev.Key.Resource == serviceAccounts && ev.Op == change.Delete:
				add(k.Key("", ev.Key.Namespace))
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
			_, account := view.Get(change.Key{Resource: serviceAccounts, Namespace: key.Name, Name: "default"})
			return sweep.Namespace(now, kinds.ByResource, sweep.Item{Key: key, Object: obj}, contents(view, kinds, key.Name), account)
		},
	}
}

// contents yields everything in a namespace.
func contents(view change.View, kinds *kind.Kinds, namespace string) iter.Seq2[change.Key, change.Object] {
	return func(yield func(change.Key, change.Object) bool) {
		for _, k := range kinds.All() {
			if !k.Namespaced {
				continue
			}
			for obj := range view.List(k.GR().String(), namespace) {
				if !yield(k.KeyOf(obj), obj) {
					return
				}
			}
		}
	}
}
