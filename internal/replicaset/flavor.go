package replicaset

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// flavor is what ReplicaSets and ReplicationControllers differ in.
type flavor struct {
	gvk      schema.GroupVersionKind
	resource change.Resource
	// component is the name under which decisions are reported.
	component string
	// countsTerminating: the status says how many pods are being deleted.
	countsTerminating bool
}

var (
	ofReplicaSets = flavor{
		gvk: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), resource: kind.ReplicaSets,
		component: "replicaset-controller", countsTerminating: true,
	}
	ofControllers = flavor{
		gvk: corev1.SchemeGroupVersion.WithKind("ReplicationController"), resource: kind.ReplicationControllers,
		component: "replication-controller",
	}
)

// read returns an object as a ReplicaSet, which shares with it all that it points to.
func read(obj change.Object) (flavor, *appsv1.ReplicaSet) {
	switch obj := obj.(type) {
	case *appsv1.ReplicaSet:
		return ofReplicaSets, obj
	case *corev1.ReplicationController:
		return ofControllers, asReplicaSet(obj)
	}
	panic(fmt.Sprintf("replicaset: %T is no set of replicas", obj)) // whoever reads the store knows the kind
}

func asReplicaSet(c *corev1.ReplicationController) *appsv1.ReplicaSet {
	set := &appsv1.ReplicaSet{
		ObjectMeta: c.ObjectMeta,
		Spec:       appsv1.ReplicaSetSpec{Replicas: c.Spec.Replicas, MinReadySeconds: c.Spec.MinReadySeconds},
		Status: appsv1.ReplicaSetStatus{
			Replicas: c.Status.Replicas, FullyLabeledReplicas: c.Status.FullyLabeledReplicas, ReadyReplicas: c.Status.ReadyReplicas,
			AvailableReplicas: c.Status.AvailableReplicas, ObservedGeneration: c.Status.ObservedGeneration,
		},
	}
	if c.Spec.Selector != nil {
		set.Spec.Selector = &metav1.LabelSelector{MatchLabels: c.Spec.Selector}
	}
	if c.Spec.Template != nil {
		set.Spec.Template = *c.Spec.Template
	}
	for _, cond := range c.Status.Conditions {
		set.Status.Conditions = append(set.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(cond.Type), Status: cond.Status,
			LastTransitionTime: cond.LastTransitionTime, Reason: cond.Reason, Message: cond.Message,
		})
	}
	return set
}

// withStatus returns the object that was read with another status.
func withStatus(obj change.Object, st appsv1.ReplicaSetStatus) change.Object {
	if set, ok := obj.(*appsv1.ReplicaSet); ok {
		next := *set
		next.Status = st
		return &next
	}
	next := *obj.(*corev1.ReplicationController)
	next.Status = corev1.ReplicationControllerStatus{
		Replicas: st.Replicas, FullyLabeledReplicas: st.FullyLabeledReplicas, ReadyReplicas: st.ReadyReplicas,
		AvailableReplicas: st.AvailableReplicas, ObservedGeneration: st.ObservedGeneration,
	}
	for _, cond := range st.Conditions {
		next.Status.Conditions = append(next.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(cond.Type), Status: cond.Status,
			LastTransitionTime: cond.LastTransitionTime, Reason: cond.Reason, Message: cond.Message,
		})
	}
	return &next
}
