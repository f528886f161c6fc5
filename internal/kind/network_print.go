package kind

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// few are how many addresses, ports or hosts a cell has.
const few = 3

// fewOf joins the first few of a list, and says how many more there are; instead is what
// stands for none.
func fewOf(list []string, instead string) string {
	if len(list) > few {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:few], ","), len(list)-few)
	}
	return orElse(strings.Join(list, ","), instead)
}

func serviceTable(k *Kind) *Kind {
	spec := corev1.ServiceSpec{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("Type", "string", spec["type"]), column("Cluster-IP", "string", spec["clusterIP"]), column("External-IP", "string", spec["externalIPs"]),
		column("Port(s)", "string", spec["ports"]), ageColumn(), wideColumn("Selector", "string", spec["selector"]),
	}
	return tabled(k, columns, func(s *corev1.Service, now time.Time) []any {
		ip := "<none>"
		if len(s.Spec.ClusterIPs) > 0 {
			ip = s.Spec.ClusterIPs[0]
		}
		var ports []string
		for _, p := range s.Spec.Ports {
			if p.NodePort > 0 {
				ports = append(ports, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
			} else {
				ports = append(ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
			}
		}
		return []any{string(s.Spec.Type), ip, externalAddress(s), orElse(strings.Join(ports, ","), "<none>"),
			age(s.CreationTimestamp, now), labels.FormatLabels(s.Spec.Selector)}
	})
}

// externalAddress is where a service is reached from outside.
func externalAddress(s *corev1.Service) string {
	all := s.Spec.ExternalIPs
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return orElse(strings.Join(all, ","), "<none>")
	case corev1.ServiceTypeLoadBalancer:
		var points []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			points = append(points, orElse(in.IP, in.Hostname))
		}
		return orElse(strings.Join(append(distinct(points), all...), ","), "<pending>")
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return "<unknown>"
}

// distinct are the texts of a list that are not empty, sorted.
func distinct(list []string) []string {
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(s string) bool { return s == "" })
}

func endpointsTable(k *Kind) *Kind {
	//lint:ignore SA1019 the row is about them
	columns := []metav1.TableColumnDefinition{column("Endpoints", "string", corev1.Endpoints{}.SwaggerDoc()["subsets"]), ageColumn()}
	//lint:ignore SA1019 the same
	return tabled(k, columns, func(e *corev1.Endpoints, now time.Time) []any {
		var list []string
		for _, s := range e.Subsets {
			for _, a := range s.Addresses {
				if len(s.Ports) == 0 {
					list = append(list, a.IP)
				}
			}
			for _, p := range s.Ports {
				for _, a := range s.Addresses {
					list = append(list, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
				}
			}
		}
		none := ""
		if len(e.Subsets) == 0 {
			none = "<none>"
		}
		return []any{fewOf(list, none), age(e.CreationTimestamp, now)}
	})
}

func endpointSliceTable(k *Kind) *Kind {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		column("AddressType", "string", doc["addressType"]), column("Ports", "string", doc["ports"]), column("Endpoints", "string", doc["endpoints"]), ageColumn(),
	}
	return tabled(k, columns, func(s *discoveryv1.EndpointSlice, now time.Time) []any {
		var ports, addresses []string
		for _, p := range s.Ports {
			switch {
			case p.Port != nil:
				ports = append(ports, strconv.Itoa(int(*p.Port)))
			case p.Name != nil:
				ports = append(ports, *p.Name)
			default:
				ports = append(ports, "*")
			}
		}
		for _, e := range s.Endpoints {
			addresses = append(addresses, e.Addresses...)
		}
		return []any{string(s.AddressType), fewOf(ports, "<unset>"), fewOf(addresses, "<unset>"), age(s.CreationTimestamp, now)}
	})
}

func ingressTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{
		column("Class", "string", "The name of the IngressClass resource that should be used for additional configuration"),
		column("Hosts", "string", "Hosts that incoming requests are matched against before the ingress rule"),
		column("Address", "string", "Address is a list containing ingress points for the load-balancer"),
		column("Ports", "string", "Ports of TLS configurations that open"), ageColumn(),
	}
	return tabled(k, columns, func(i *networkingv1.Ingress, now time.Time) []any {
		ports := "80"
		if len(i.Spec.TLS) > 0 {
			ports = "80, 443"
		}
		var points []string
		for _, in := range i.Status.LoadBalancer.Ingress {
			points = append(points, orElse(in.IP, in.Hostname))
		}
		return []any{ptr.Deref(i.Spec.IngressClassName, "<none>"), hosts(i.Spec.Rules), strings.Join(distinct(points), ","), ports, age(i.CreationTimestamp, now)}
	})
}

// hosts names the first few hosts; the number of others is, as in Kubernetes, that of the
// rules.
func hosts(rules []networkingv1.IngressRule) string {
	var list []string
	for i, rule := range rules {
		if len(list) == few {
			return fmt.Sprintf("%s + %d more...", strings.Join(list, ","), len(rules)-few)
		}
		if rules[i].Host != "" {
			list = append(list, rule.Host)
		}
	}
	return orElse(strings.Join(list, ","), "*")
}

func ingressClassTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{
		column("Controller", "string", "Controller that is responsible for handling this class"),
		column("Parameters", "string", "A reference to a resource with additional parameters"), ageColumn(),
	}
	tabled(k, columns, func(c *networkingv1.IngressClass, now time.Time) []any {
		parameters := "<none>"
		if p := c.Spec.Parameters; p != nil {
			if parameters = p.Kind; p.APIGroup != nil {
				parameters += "." + *p.APIGroup
			}
			parameters += "/" + p.Name
		}
		return []any{c.Spec.Controller, parameters, age(c.CreationTimestamp, now)}
	})
	cells := k.Table.Cells
	k.Table.Cells = func(obj Object, now time.Time) []any {
		all := cells(obj, now)
		if obj.GetAnnotations()[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			all[0] = obj.GetName() + " (default)"
		}
		return all
	}
	return k
}

func networkPolicyTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{column("Pod-Selector", "string", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]), ageColumn()}
	return tabled(k, columns, func(p *networkingv1.NetworkPolicy, now time.Time) []any {
		return []any{metav1.FormatLabelSelector(&p.Spec.PodSelector), age(p.CreationTimestamp, now)}
	})
}

func ipAddressTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{column("ParentRef", "string", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"])}
	return tabled(k, columns, func(a *networkingv1.IPAddress, _ time.Time) []any {
		parent := "<none>"
		if ref := a.Spec.ParentRef; ref != nil {
			parent = strings.ToLower(schema.GroupResource{Group: ref.Group, Resource: ref.Resource}.String())
			if ref.Namespace != "" {
				parent += "/" + ref.Namespace
			}
			parent += "/" + ref.Name
		}
		return []any{parent}
	})
}

func serviceCIDRTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{column("CIDRs", "string", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]), ageColumn()}
	return tabled(k, columns, func(c *networkingv1.ServiceCIDR, now time.Time) []any {
		return []any{strings.Join(c.Spec.CIDRs, ","), age(c.CreationTimestamp, now)}
	})
}
