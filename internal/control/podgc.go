package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// orphanController removes the pods of nodes that do not exist: of those that were deleted, and
// of those that somebody has bound a pod to and that never were. Its keys are nodes.
func orphanController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.Pods)
	return Controller{
		Name:  "pod-gc-orphans",
		After: sweep.OrphanPatience,
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch obj := ev.Object.(type) {
			case *corev1.Node:
				if ev.Op == change.Delete {
					add(ev.Key)
				}
			case *corev1.Pod:
				if prev, ok := ev.Prev.(*corev1.Pod); obj.Spec.NodeName == "" || ok && prev.Spec.NodeName != "" || ev.Op == change.Delete {
					return
				}
				key := kind.Nodes.Key("", obj.Spec.NodeName)
				if _, exists := view.Get(key); !exists {
					add(key)
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			if _, exists := view.Get(key); exists {
				return change.Set{}
			}
			return sweep.OrphanedPods(now, key.Name, func(yield func(sweep.Item) bool) {
				for obj := range view.Index(kind.Pods, kind.NodePods(key.Name)) {
					if !yield(sweep.Item{Kind: k, Object: obj}) {
						return
					}
				}
			})
		},
	}
}

// podController keeps the number of terminated pods bounded. Each look is at all
// pods, so that one at each end would be too many. Kubernetes looks every 20 s; here
// far more pods can end in that time.
func podController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.Pods)
	all := change.Key{Resource: "podgc"}
	return Controller{
		Name:  "pod-gc",
		Every: time.Second,
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			pod, ok := ev.Object.(*corev1.Pod)
			if ok && ev.Op == change.Update && kind.PodEnded(pod) && view.Len(kind.Pods) > sweep.TerminatedPodThreshold {
				add(all)
			}
		},
		Decide: func(now time.Time, view change.View, _ change.Key, _ error) change.Set {
			each := func(yield func(sweep.Item) bool) {
				for obj := range view.List(kind.Pods, "") {
					if !yield(sweep.Item{Kind: k, Object: obj}) {
						return
					}
				}
			}
			return sweep.TerminatedPods(now, each, sweep.TerminatedPodThreshold)
		},
	}
}
