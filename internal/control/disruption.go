package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/disruption"
	"github.com/sampan-batch/sampan/internal/kind"
)

// disruptionController keeps the status of PodDisruptionBudgets.
func disruptionController() Controller {
	return Controller{
		Name: "disruption",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.PodDisruptionBudgets:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.Pods:
				if view.Len(kind.PodDisruptionBudgets) == 0 {
					return
				}
				for _, obj := range []change.Object{ev.Object, ev.Prev} {
					if pod, ok := obj.(*corev1.Pod); ok {
						for _, budget := range kind.BudgetsOf(pod, view) {
							add(kind.PodDisruptionBudgets.Key(budget.Namespace, budget.Name))
						}
					}
				}
			case kind.ReplicationControllers, kind.ReplicaSets, kind.Deployments, kind.StatefulSets:
				if view.Len(kind.PodDisruptionBudgets) == 0 || ev.Prev != nil && ev.Prev.GetGeneration() == ev.Object.GetGeneration() {
					return // its scale has not changed
				}
				for obj := range view.List(kind.PodDisruptionBudgets, ev.Key.Namespace) {
					add(kind.PodDisruptionBudgets.Key(obj.GetNamespace(), obj.GetName()))
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			budget := at[*policyv1.PodDisruptionBudget](view, kind.PodDisruptionBudgets, key.Namespace, key.Name)
			if budget == nil {
				return change.Set{}
			}
			s := disruption.State{Budget: budget, Others: view}
			for obj := range view.List(kind.Pods, key.Namespace) {
				if pod := obj.(*corev1.Pod); kind.Guards(budget, pod) {
					s.Pods = append(s.Pods, pod)
				}
			}
			return disruption.Decide(now, s)
		},
	}
}
