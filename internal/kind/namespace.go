package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Namespace is the row of v1 namespaces.
func Namespace() *Kind {
	return &Kind{
		Resource:   "namespaces",
		Singular:   "namespace",
		ShortNames: []string{"ns"},
		GVK:        corev1.SchemeGroupVersion.WithKind("Namespace"),
		New:        func() Object { return &corev1.Namespace{} },
		NewList:    func() runtime.Object { return &corev1.NamespaceList{} },
	}
}
