package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Secret is the row of v1 secrets.
func Secret() *Kind {
	return &Kind{
		Resource:   "secrets",
		Singular:   "secret",
		Namespaced: true,
		GVK:        corev1.SchemeGroupVersion.WithKind("Secret"),
		New:        func() Object { return &corev1.Secret{} },
		NewList:    func() runtime.Object { return &corev1.SecretList{} },
	}
}
