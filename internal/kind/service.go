package kind

import (
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/registry/core/service"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// ServiceRange are the addresses of Services, --service-cluster-ip-range of a cluster.
var ServiceRange = netip.MustParsePrefix("10.96.0.0/16")

// ServiceRangeIPv6 are those of IPv6, where there is a catalogue for that (DualStack).
var ServiceRangeIPv6 = netip.MustParsePrefix("fd00:10:96::/112")

// The addresses of the Services that a cluster has: the first of the range is the API's,
// the tenth that of its DNS.
const (
	APIServiceAddress = "10.96.0.1"
	DNSServiceAddress = "10.96.0.10"
)

// The ports of a node that Services get, both included.
const (
	FirstNodePort = 30000
	LastNodePort  = 32767
)

// Service is the row of v1 services, where they have addresses of IPv4.
func Service() *Kind { return serviceOf(corev1.IPv4Protocol) }

// serviceOf is the row of v1 services of a cluster that has these families of addresses.
func serviceOf(families ...corev1.IPFamily) *Kind {
	k := kubernetes[corev1.Service, corev1.ServiceList](Names{
		Resource: Services, Singular: "service", ShortNames: []string{"svc"}, Categories: []string{"all"},
		GVK: corev1.SchemeGroupVersion.WithKind("Service"),
	}, upstream.Service(families...), service.StatusStrategy).answersObject()
	k.Select.Fields = selects(func(s *corev1.Service) fields.Set {
		return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
	})
	k.Subresources = []Subresource{Proxy}
	k.AddToScheme = func(s *runtime.Scheme) error {
		addVersion(s, corev1.SchemeGroupVersion, &corev1.ServiceProxyOptions{})
		return parses(s, func(q query, out *corev1.ServiceProxyOptions) { q.text("path", &out.Path) })
	}
	k.Select.Index = func(obj Object) []string { return ServiceTerms(obj.(*corev1.Service)) }
	return serviceTable(k)
}

// ServicesAt is the index term of the Service that has a cluster address.
func ServicesAt(ip string) string { return "at/" + ip }

// ServicesOnPort is the index term of the Service that has a port of the nodes.
func ServicesOnPort(port int32) string { return "port/" + strconv.Itoa(int(port)) }

// ServiceTerms returns the index terms of a Service: what it has that no other can have.
func ServiceTerms(s *corev1.Service) []string {
	var terms []string
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		for _, ip := range s.Spec.ClusterIPs {
			if ip != corev1.ClusterIPNone && ip != "" {
				terms = append(terms, ServicesAt(ip))
			}
		}
	}
	seen := map[int32]bool{0: true}
	add := func(port int32) {
		if !seen[port] {
			seen[port] = true
			terms = append(terms, ServicesOnPort(port))
		}
	}
	for i := range s.Spec.Ports {
		add(s.Spec.Ports[i].NodePort)
	}
	add(s.Spec.HealthCheckNodePort)
	return terms
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
	k := kubernetes[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](Names{
		Resource: EndpointSlices, Singular: "endpointslice",
		GVK: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
	}, upstream.EndpointSlice(), nil)
	k.Select.Index = func(obj Object) []string {
		if service := obj.GetLabels()[discoveryv1.LabelServiceName]; service != "" {
			return []string{SlicesOf(obj.GetNamespace(), service)}
		}
		return nil
	}
	return endpointSliceTable(k)
}

// SlicesOf is the index term of the EndpointSlices of a Service.
func SlicesOf(namespace, service string) string { return "of/" + namespace + "/" + service }
