package kind

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/kubernetes/pkg/registry/core/service"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// Service is the row of v1 services.
func Service() *Kind {
	k := kubernetes[corev1.Service, corev1.ServiceList](Names{
		Resource: Services, Singular: "service", ShortNames: []string{"svc"}, Categories: []string{"all"},
		GVK: corev1.SchemeGroupVersion.WithKind("Service"),
	}, service.Strategy, service.StatusStrategy).answersObject().withoutEffect("pods share the machine's network, and are found at its address")
	k.Select.Fields = selects(func(s *corev1.Service) fields.Set {
		return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	})
	return serviceTable(k)
}

// Endpoints is the row of v1 endpoints.
func Endpoints() *Kind {
	//lint:ignore SA1019 clients still write them
	return endpointsTable(kubernetes[corev1.Endpoints, corev1.EndpointsList](Names{
		Resource: EndpointsOf, Singular: "endpoints", ShortNames: []string{"ep"},
		GVK: corev1.SchemeGroupVersion.WithKind("Endpoints"),
	}, upstream.Endpoints(), nil))
}

// EndpointSlice is the row of discovery.k8s.io/v1 endpointslices.
func EndpointSlice() *Kind {
	return endpointSliceTable(kubernetes[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](Names{
		Resource: EndpointSlices, Singular: "endpointslice",
		GVK: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
	}, upstream.EndpointSlice(), nil))
}
