package kind

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/core/podtemplate"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
)

// Deployment is the row of apps/v1 deployments.
func Deployment() *Kind {
	return deploymentTable(kubernetes[appsv1.Deployment, appsv1.DeploymentList](Names{
		Resource: Deployments, Singular: "deployment", ShortNames: []string{"deploy"}, Categories: []string{"all"},
		GVK: appsv1.SchemeGroupVersion.WithKind("Deployment"),
	}, deployment.Strategy, deployment.StatusStrategy).scaled(Scale{
		Read: func(obj Object) (want, have int32, selector string, err error) {
			d := obj.(*appsv1.Deployment)
			selector, err = selectorText(d.Spec.Selector)
			return *d.Spec.Replicas, d.Status.Replicas, selector, err
		},
		Set: func(obj Object, want int32) { obj.(*appsv1.Deployment).Spec.Replicas = &want },
	}))
}

// ReplicaSet is the row of apps/v1 replicasets.
func ReplicaSet() *Kind {
	k := kubernetes[appsv1.ReplicaSet, appsv1.ReplicaSetList](Names{
		Resource: ReplicaSets, Singular: "replicaset", ShortNames: []string{"rs"}, Categories: []string{"all"},
		GVK: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
	}, replicaset.Strategy, replicaset.StatusStrategy)
	k.Select.Index = ownTerms
	return replicaSetTable(k.scaled(Scale{
		Read: func(obj Object) (want, have int32, selector string, err error) {
			s := obj.(*appsv1.ReplicaSet)
			selector, err = selectorText(s.Spec.Selector)
			return *s.Spec.Replicas, s.Status.Replicas, selector, err
		},
		Set: func(obj Object, want int32) { obj.(*appsv1.ReplicaSet).Spec.Replicas = &want },
	}))
}

// StatefulSet is the row of apps/v1 statefulsets.
func StatefulSet() *Kind {
	k := statefulSetTable(kubernetes[appsv1.StatefulSet, appsv1.StatefulSetList](Names{
		Resource: StatefulSets, Singular: "statefulset", ShortNames: []string{"sts"}, Categories: []string{"all"},
		GVK: appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
	}, statefulset.Strategy, statefulset.StatusStrategy).scaled(Scale{
		Read: func(obj Object) (want, have int32, selector string, err error) {
			s := obj.(*appsv1.StatefulSet)
			selector, err = selectorText(s.Spec.Selector)
			return *s.Spec.Replicas, s.Status.Replicas, selector, err
		},
		Set: func(obj Object, want int32) { obj.(*appsv1.StatefulSet).Spec.Replicas = &want },
	}))
	k.Storage.Implied = func(obj Object) {
		for i := range obj.(*appsv1.StatefulSet).Spec.VolumeClaimTemplates {
			template := &obj.(*appsv1.StatefulSet).Spec.VolumeClaimTemplates[i]
			template.APIVersion, template.Kind = "v1", "PersistentVolumeClaim"
		}
	}
	return k
}

// DaemonSet is the row of apps/v1 daemonsets.
func DaemonSet() *Kind {
	return daemonSetTable(kubernetes[appsv1.DaemonSet, appsv1.DaemonSetList](Names{
		Resource: DaemonSets, Singular: "daemonset", ShortNames: []string{"ds"}, Categories: []string{"all"},
		GVK: appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
	}, daemonset.Strategy, daemonset.StatusStrategy).keeps(Backoff))
}

// ControllerRevision is the row of apps/v1 controllerrevisions.
func ControllerRevision() *Kind {
	k := kubernetes[appsv1.ControllerRevision, appsv1.ControllerRevisionList](Names{
		Resource: ControllerRevisions, Singular: "controllerrevision",
		GVK: appsv1.SchemeGroupVersion.WithKind("ControllerRevision"),
	}, controllerrevision.Strategy, nil)
	k.Select.Index = ownTerms
	return controllerRevisionTable(k)
}

// ReplicationController is the row of v1 replicationcontrollers.
func ReplicationController() *Kind {
	k := kubernetes[corev1.ReplicationController, corev1.ReplicationControllerList](Names{
		Resource: ReplicationControllers, Singular: "replicationcontroller", ShortNames: []string{"rc"}, Categories: []string{"all"},
		GVK: corev1.SchemeGroupVersion.WithKind("ReplicationController"),
	}, replicationcontroller.Strategy, replicationcontroller.StatusStrategy)
	k.Select.Fields = selects(func(c *corev1.ReplicationController) fields.Set {
		return fields.Set{"status.replicas": strconv.Itoa(int(c.Status.Replicas))}
	})
	k.Dependents.Propagation = metav1.DeletePropagationOrphan
	return replicationControllerTable(k.scaled(Scale{
		Read: func(obj Object) (want, have int32, selector string, err error) {
			c := obj.(*corev1.ReplicationController)
			return *c.Spec.Replicas, c.Status.Replicas, labels.SelectorFromSet(c.Spec.Selector).String(), nil
		},
		Set: func(obj Object, want int32) { obj.(*corev1.ReplicationController).Spec.Replicas = &want },
	}))
}

func selectorText(s *metav1.LabelSelector) (string, error) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "", err
	}
	return selector.String(), nil
}

// PodTemplate is the row of v1 podtemplates.
func PodTemplate() *Kind {
	return podTemplateTable(kubernetes[corev1.PodTemplate, corev1.PodTemplateList](Names{
		Resource: PodTemplates, Singular: "podtemplate",
		GVK: corev1.SchemeGroupVersion.WithKind("PodTemplate"),
	}, podtemplate.Strategy, nil).answersObject())
}
