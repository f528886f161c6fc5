package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ConfigMap is the row of v1 configmaps.
func ConfigMap() *Kind {
	return &Kind{
		Resource:   "configmaps",
		Singular:   "configmap",
		ShortNames: []string{"cm"},
		Namespaced: true,
		GVK:        corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		New:        func() Object { return &corev1.ConfigMap{} },
		NewList:    func() runtime.Object { return &corev1.ConfigMapList{} },
	}
}
