// Package proxy says where what is sent to a Service goes, as kube-proxy does on a node of
// Kubernetes: it turns Services and EndpointSlices into what a runner is told
// (runner.Runner.SetServices). It is pure.
package proxy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sampan-batch/sampan/internal/network"
)

// Table returns the ports of the Services that have an address, each with its endpoints as the
// node sees them: those that are ready, or, if none is, those that still serve while they end; of
// a Service whose traffic policy is Local those on the node. An object that no node could use
// (another family of addresses, another protocol) is left out, and what is too much (see bound).
func Table(node string, machine Machine, services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice) []network.Service {
	of := make(map[string]behind)
	for _, slice := range endpoints {
		if _, headless := slice.Labels[corev1.IsHeadlessService]; !headless {
			key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
			of[key] = of[key].with(slice)
		}
	}
	services = slices.DeleteFunc(slices.Clone(services), func(s *corev1.Service) bool {
		_, others := s.Labels["service.kubernetes.io/service-proxy-name"] // another proxy's
		return others
	})
	own := make([][]network.Service, len(services)) // by Service
	seen := make(map[network.Port]bool)
	for i, s := range services {
		all := of[s.Namespace+"/"+s.Name]
		own[i] = append(machinePorts(node, machine.NodePorts, s, all), ports(node, s, all, addresses(s), seen)...)
	}
	// What a manifest says is led here comes after what is led here: nobody takes another's address.
	for i, s := range services {
		all := of[s.Namespace+"/"+s.Name]
		own[i] = append(own[i], ports(node, s, all, outer(s), seen)...)
		own[i] = append(own[i], nodePorts(s, all, machine.ForPods, seen)...)
	}
	return bound(own)
}

// behind are the slices of a Service, by what family their addresses are of.
type behind struct{ four, six []*discoveryv1.EndpointSlice }

func (b behind) with(slice *discoveryv1.EndpointSlice) behind {
	switch slice.AddressType {
	case discoveryv1.AddressTypeIPv4:
		b.four = append(b.four, slice)
	case discoveryv1.AddressTypeIPv6:
		b.six = append(b.six, slice)
	}
	return b
}

// at returns those that an address of the Service leads to: of its family.
func (b behind) at(ip netip.Addr) []*discoveryv1.EndpointSlice {
	if ip.Is4() {
		return b.four
	}
	return b.six
}

// spoken are those of the addresses that are of a family which the Service has.
func spoken(s *corev1.Service, list []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(list), func(ip netip.Addr) bool {
		family := corev1.IPv6Protocol
		if ip.Is4() {
			family = corev1.IPv4Protocol
		}
		return !slices.Contains(s.Spec.IPFamilies, family) && (len(s.Spec.IPFamilies) > 0 || family == corev1.IPv6Protocol)
	})
}

// nodePorts are those of a Service as pods find them, at the addresses of the machine. Whoever comes
// from a pod has all endpoints, whatever the policy for traffic from outside is.
func nodePorts(s *corev1.Service, of behind, machine []netip.Addr, seen map[network.Port]bool) (table []network.Service) {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		protocol, ok := protocolOf(p.Protocol)
		if p.NodePort == 0 || !ok {
			continue
		}
		for _, ip := range spoken(s, machine) {
			port := network.Port{Address: ip, Port: uint16(p.NodePort), Protocol: protocol}
			if seen[port] {
				continue
			}
			seen[port] = true
			table = append(table, network.Service{At: port, Endpoints: endpoints("", p.Name, p.Protocol, of.at(ip)), Sticky: sticky(s)})
		}
	}
	return table
}

// sticky tells whether a client of a Service is always led to the same endpoint.
func sticky(s *corev1.Service) bool { return s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP }

// machinePorts are those of a Service at the machine.
func machinePorts(node string, at []netip.Addr, s *corev1.Service, of behind) (table []network.Service) {
	if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		node = ""
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		protocol, ok := protocolOf(p.Protocol)
		if p.NodePort == 0 || !ok {
			continue
		}
		for _, ip := range spoken(s, at) {
			list := endpoints(node, p.Name, p.Protocol, of.at(ip))
			if node != "" && len(list) == 0 {
				continue // it is another node's, who has one
			}
			table = append(table, network.Service{
				At:        network.Port{Address: ip, Port: uint16(p.NodePort), Protocol: protocol},
				Endpoints: list, Machine: true, Sticky: sticky(s),
			})
		}
	}
	return table
}

// ports are those of a Service at some addresses, where nobody has been seen.
func ports(node string, s *corev1.Service, of behind, at []netip.Addr, seen map[network.Port]bool) (table []network.Service) {
	if p := s.Spec.InternalTrafficPolicy; p == nil || *p != corev1.ServiceInternalTrafficPolicyLocal {
		node = ""
	}
	for _, ip := range spoken(s, at) {
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			protocol, ok := protocolOf(p.Protocol)
			port := network.Port{Address: ip, Port: uint16(p.Port), Protocol: protocol}
			if !ok || seen[port] {
				continue
			}
			seen[port] = true
			table = append(table, network.Service{
				At: port, Endpoints: endpoints(node, p.Name, p.Protocol, of.at(ip)),
				Sticky: sticky(s),
			})
		}
	}
	return table
}

// HostPorts returns the ports of the machine that the containers of a pod at this address ask
// for.
func HostPorts(pod *corev1.Pod, address netip.Addr) (list []network.Service) {
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			protocol, ok := protocolOf(p.Protocol)
			at := netip.IPv4Unspecified()
			if address.Is6() {
				at = netip.IPv6Unspecified()
			}
			if p.HostIP != "" {
				ip, err := netip.ParseAddr(p.HostIP)
				if err != nil || ip.Is4() != address.Is4() {
					continue // it is for the pod's other address
				}
				at = ip
			}
			if ok {
				list = append(list, network.Service{
					At:        network.Port{Address: at, Port: uint16(p.HostPort), Protocol: protocol},
					Endpoints: []netip.AddrPort{netip.AddrPortFrom(address, uint16(p.ContainerPort))}, Machine: true,
				})
			}
		}
	}
	return list
}

// addresses are those of a Service, but for the one that names are asked at: that is the engine's.
func addresses(s *corev1.Service) []netip.Addr {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	names := network.DefaultConfig().Names
	return slices.DeleteFunc(parsed(texts), func(ip netip.Addr) bool { return ip == names })
}

// outer are those outside of which a Service's manifest or status says that they lead to it. Those
// of pods and Services cannot be among them: one tenant would get what is for another.
func outer(s *corev1.Service) []netip.Addr {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	texts := slices.Clone(s.Spec.ExternalIPs)
	for _, in := range s.Status.LoadBalancer.Ingress {
		texts = append(texts, in.IP)
	}
	own := network.DefaultConfig()
	return slices.DeleteFunc(parsed(texts), func(ip netip.Addr) bool { return own.IsPod(ip) || own.IsService(ip) })
}

// parsed are those of the texts that are addresses.
func parsed(texts []string) (list []netip.Addr) {
	for _, text := range texts {
		if ip, err := netip.ParseAddr(text); err == nil && !ip.Is4In6() && ip.Zone() == "" {
			list = append(list, ip)
		}
	}
	return list
}

func protocolOf(p corev1.Protocol) (network.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return network.TCP, true
	case corev1.ProtocolUDP:
		return network.UDP, true
	}
	return 0, false
}

// endpoints returns those of a port on the node, or on all if that is "", in an order that does not
// depend on that of the slices.
func endpoints(node, name string, protocol corev1.Protocol, list []*discoveryv1.EndpointSlice) []netip.AddrPort {
	var ready, ending []netip.AddrPort
	for _, slice := range list {
		number, ok := numberOf(name, protocol, slice.Ports)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if node != "" && (e.NodeName == nil || *e.NodeName != node) {
				continue
			}
			to := &ready
			if c := e.Conditions; c.Ready != nil && !*c.Ready {
				if c.Serving == nil || !*c.Serving || c.Terminating == nil || !*c.Terminating {
					continue
				}
				to = &ending
			}
			for _, text := range e.Addresses {
				if len(*to) == maxEndpoints {
					break // a port has no more, and a Service may have thousands of ports
				}
				if ip, err := netip.ParseAddr(text); err == nil && ip.Is4() == (slice.AddressType == discoveryv1.AddressTypeIPv4) {
					*to = append(*to, netip.AddrPortFrom(ip, number))
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = ending
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

// numberOf returns the port of the endpoints that a Service's port stands for.
func numberOf(name string, protocol corev1.Protocol, ports []discoveryv1.EndpointPort) (uint16, bool) {
	for _, p := range ports {
		own, of := "", corev1.ProtocolTCP
		if p.Name != nil {
			own = *p.Name
		}
		if p.Protocol != nil {
			of = *p.Protocol
		}
		if own == name && of == protocol && p.Port != nil && *p.Port > 0 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}
