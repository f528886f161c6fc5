package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Node is the row of v1 nodes.
func Node() *Kind {
	return &Kind{
		Resource:   "nodes",
		Singular:   "node",
		ShortNames: []string{"no"},
		GVK:        corev1.SchemeGroupVersion.WithKind("Node"),
		New:        func() Object { return &corev1.Node{} },
		NewList:    func() runtime.Object { return &corev1.NodeList{} },
	}
}
