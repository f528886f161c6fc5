package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/place"
)

// taintController keeps pods away from nodes that have too little of something.
func taintController() Controller {
	return Controller{
		Name: "taint",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			if ev.Key.Resource == kind.Nodes && ev.Op != change.Delete {
				if _, changed := place.Taints(ev.Object.(*corev1.Node)); changed {
					add(ev.Key)
				}
			}
		},
		Decide: func(_ time.Time, view change.View, key change.Key, _ error) change.Set {
			var set change.Set
			obj, ok := view.Get(key)
			if !ok {
				return set
			}
			node := obj.(*corev1.Node)
			if taints, changed := place.Taints(node); changed {
				next := *node // shares everything but the taints
				next.Spec.Taints = taints
				set.Update(key, change.RevOf(node), &next)
			}
			return set
		},
	}
}
