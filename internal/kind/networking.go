package kind

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	"k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/networking/servicecidr"
)

// Ingress is the row of networking.k8s.io/v1 ingresses.
func Ingress() *Kind {
	return ingressTable(kubernetes[networkingv1.Ingress, networkingv1.IngressList](Names{
		Resource: Ingresses, Singular: "ingress", ShortNames: []string{"ing"},
		GVK: networkingv1.SchemeGroupVersion.WithKind("Ingress"),
	}, ingress.Strategy, ingress.StatusStrategy).withoutEffect("nothing routes requests to services"))
}

// IngressClass is the row of networking.k8s.io/v1 ingressclasses.
func IngressClass() *Kind {
	return ingressClassTable(kubernetes[networkingv1.IngressClass, networkingv1.IngressClassList](Names{
		Resource: IngressClasses, Singular: "ingressclass",
		GVK: networkingv1.SchemeGroupVersion.WithKind("IngressClass"),
	}, ingressclass.Strategy, nil).withoutEffect("nothing routes requests to services"))
}

// NetworkPolicy is the row of networking.k8s.io/v1 networkpolicies.
func NetworkPolicy() *Kind {
	return networkPolicyTable(kubernetes[networkingv1.NetworkPolicy, networkingv1.NetworkPolicyList](Names{
		Resource: NetworkPolicies, Singular: "networkpolicy", ShortNames: []string{"netpol"},
		GVK: networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"),
	}, networkpolicy.Strategy, nil))
}

// IPAddress is the row of networking.k8s.io/v1 ipaddresses.
func IPAddress() *Kind {
	return ipAddressTable(kubernetes[networkingv1.IPAddress, networkingv1.IPAddressList](Names{
		Resource: IPAddresses, Singular: "ipaddress", ShortNames: []string{"ip"},
		GVK: networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
	}, ipaddress.Strategy, nil).withoutEffect("which address is whose, is in the services alone"))
}

// ServiceCIDR is the row of networking.k8s.io/v1 servicecidrs.
func ServiceCIDR() *Kind {
	return serviceCIDRTable(kubernetes[networkingv1.ServiceCIDR, networkingv1.ServiceCIDRList](Names{
		Resource: ServiceCIDRs, Singular: "servicecidr",
		GVK: networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
	}, servicecidr.Strategy, servicecidr.StatusStrategy).withoutEffect("services have addresses of " + ServiceRange.String() + " and " + ServiceRangeIPv6.String() + " only"))
}
