package kind

import (
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
)

// PriorityClass is the row of scheduling.k8s.io/v1 priorityclasses.
func PriorityClass() *Kind {
	k := kubernetes[schedulingv1.PriorityClass, schedulingv1.PriorityClassList](Names{
		Resource: PriorityClasses, Singular: "priorityclass", ShortNames: []string{"pc"},
		GVK: schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
	}, priorityclass.Strategy, nil)
	k.Create.Limit = onlyDefault
	k.Update.Limit = func(obj, _ Object, others Getter) error { return onlyDefault(obj, others) }
	return priorityClassTable(k)
}

// RuntimeClass is the row of node.k8s.io/v1 runtimeclasses.
func RuntimeClass() *Kind {
	return runtimeClassTable(kubernetes[nodev1.RuntimeClass, nodev1.RuntimeClassList](Names{
		Resource: RuntimeClasses, Singular: "runtimeclass",
		GVK: nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
	}, runtimeclass.Strategy, nil).withoutEffect("containers run in the classes sandbox and host, which are there: the pods of others are given overhead, node selector and tolerations, and wait"))
}
