package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ServiceAccount is the row of v1 serviceaccounts.
func ServiceAccount() *Kind {
	return &Kind{
		Resource:   "serviceaccounts",
		Singular:   "serviceaccount",
		ShortNames: []string{"sa"},
		Namespaced: true,
		GVK:        corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		New:        func() Object { return &corev1.ServiceAccount{} },
		NewList:    func() runtime.Object { return &corev1.ServiceAccountList{} },
	}
}
