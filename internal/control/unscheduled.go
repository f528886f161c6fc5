package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// unscheduledController ends pods that are deleted before a node has them.
func unscheduledController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.Pods)
	return Controller{
		Name: "unscheduled",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			pod, ok := ev.Object.(*corev1.Pod)
			if ok && ev.Op != change.Delete && pod.DeletionTimestamp != nil && pod.Spec.NodeName == "" {
				add(ev.Key)
			}
		},
		Decide: func(_ time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return sweep.UnscheduledPod(sweep.Item{Kind: k, Object: obj})
		},
	}
}
