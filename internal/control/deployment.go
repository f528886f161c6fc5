package control

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/deployment"
	"github.com/sampan-batch/sampan/internal/kind"
)

// deploymentController runs Deployments.
func deploymentController(kinds *kind.Kinds) Controller {
	k, setKind := kinds.ByResource(kind.Deployments), kinds.ByResource(kind.ReplicaSets)
	return Controller{
		Name: "deployment",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.Deployments:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.ReplicaSets:
				podOwners(view, k, deploymentSelector, ev, add)
			case kind.Pods:
				lastOfItsTemplate(view, k, setKind, ev, add)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			d := obj.(*appsv1.Deployment)
			return deployment.Decide(now, deployment.State{
				Deployment: d, Sets: ownOf[*appsv1.ReplicaSet](view, kind.ReplicaSets, d), SetKind: setKind, Refused: refused,
				Set: func(name string) *appsv1.ReplicaSet {
					return at[*appsv1.ReplicaSet](view, kind.ReplicaSets, d.Namespace, name)
				},
				Pods: func(set types.UID) (pods []*corev1.Pod) {
					for pod := range view.Index(kind.Pods, kind.LivePods(set)) {
						pods = append(pods, pod.(*corev1.Pod))
					}
					return pods
				},
			})
		},
	}
}

func deploymentSelector(obj change.Object) *metav1.LabelSelector {
	return obj.(*appsv1.Deployment).Spec.Selector
}

// lastOfItsTemplate adds the Deployment that waits with its new pods until the old ones
// have ended, when one has that its ReplicaSet does not tell of.
func lastOfItsTemplate(view change.View, k, setKind *kind.Kind, ev change.Event, add func(change.Key)) {
	ref := metav1.GetControllerOfNoCopy(ev.Object)
	if ref == nil || ref.Kind != setKind.GVK.Kind || ev.Op != change.Delete && !kind.PodEnded(ev.Object.(*corev1.Pod)) {
		return
	}
	set := at[*appsv1.ReplicaSet](view, kind.ReplicaSets, ev.Key.Namespace, ref.Name)
	if set == nil {
		return
	}
	owner := metav1.GetControllerOfNoCopy(set)
	if owner == nil || owner.Kind != k.GVK.Kind {
		return
	}
	d := at[*appsv1.Deployment](view, kind.Deployments, ev.Key.Namespace, owner.Name)
	if d != nil && d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		add(k.KeyOf(d))
	}
}
