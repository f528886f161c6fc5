package kind

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
)

// ResourceQuota is the row of v1 resourcequotas.
func ResourceQuota() *Kind {
	return resourceQuotaTable(kubernetes[corev1.ResourceQuota, corev1.ResourceQuotaList](Names{
		Resource: ResourceQuotas, Singular: "resourcequota", ShortNames: []string{"quota"},
		GVK: corev1.SchemeGroupVersion.WithKind("ResourceQuota"),
	}, resourcequota.Strategy, resourcequota.StatusStrategy).answersObject())
}

// LimitRange is the row of v1 limitranges.
func LimitRange() *Kind {
	return kubernetes[corev1.LimitRange, corev1.LimitRangeList](Names{
		Resource: LimitRanges, Singular: "limitrange", ShortNames: []string{"limits"},
		GVK: corev1.SchemeGroupVersion.WithKind("LimitRange"),
	}, limitrange.Strategy, nil)
}
