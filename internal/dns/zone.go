package dns

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Domain is what the names of a cluster end with.
const Domain = "cluster.local"

// TTL is how many seconds an answer may be remembered: as short as CoreDNS has it, since
// what a name leads to changes within milliseconds.
const TTL = 5

// Zone is the names of a cluster. It does not change.
type Zone struct {
	// records are by name, in lower case and without the dot at its end. A name without
	// any is one that others are below.
	records map[string]*records
	reverse map[netip.Addr][]string
}

// records are those of a name.
type records struct {
	addresses []netip.Addr
	alias     string
	services  []service
}

// service is what records of type SRV say: that each of the targets has something at the port. The ports
// of a slice of endpoints have the list in common: there may be 20,000 of the former, and 1,000 in the latter.
type service struct {
	targets []string
	port    uint16
}

// maxRecords is how many records of a name there are, and as many more of an address: of the
// smallest, no answer holds more.
const maxRecords = 4000

// builder is a Zone that is being made.
type builder struct {
	*Zone
	told map[named]bool // which addresses the names have
}

type named struct {
	*records
	ip netip.Addr
}

// Cluster is what there are names of.
type Cluster struct {
	Services  []*corev1.Service
	Endpoints []*discoveryv1.EndpointSlice
	// Namespaces are the names of those that exist.
	Namespaces []string
	// Server is where names are asked for; it has one itself.
	Server netip.Addr
}

// serverName is the one that the zone's records NS and SOA say, as CoreDNS has it.
const serverName = "ns.dns." + Domain

// NewZone returns the names of a cluster: of its Services, and of the pods that there may be in
// its namespaces.
func NewZone(c Cluster) *Zone {
	z := builder{&Zone{records: make(map[string]*records), reverse: make(map[netip.Addr][]string)}, make(map[named]bool)}
	z.at("svc." + Domain)
	z.at("pod." + Domain)
	z.address(serverName, c.Server)
	for _, namespace := range c.Namespaces {
		z.at(namespace + ".svc." + Domain)
		z.at(namespace + ".pod." + Domain)
	}
	of := make(map[string][]*discoveryv1.EndpointSlice)
	for _, slice := range c.Endpoints {
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		of[key] = append(of[key], slice)
	}
	for _, s := range c.Services {
		z.add(s, of[s.Namespace+"/"+s.Name])
	}
	return z.Zone
}

// add adds the names of a Service.
func (z *builder) add(s *corev1.Service, endpoints []*discoveryv1.EndpointSlice) {
	name := s.Name + "." + s.Namespace + ".svc." + Domain
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		z.at(name).alias = strings.TrimSuffix(strings.ToLower(s.Spec.ExternalName), ".")
		return
	}
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		z.headless(name, endpoints)
		return
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 && s.Spec.ClusterIP != "" {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, text := range ips {
		if ip, err := netip.ParseAddr(text); err == nil {
			z.address(name, ip)
			z.reverse[ip] = append(z.reverse[ip], name)
		}
	}
	for _, port := range s.Spec.Ports {
		z.port(name, port.Name, string(port.Protocol), service{[]string{name}, uint16(port.Port)})
	}
}

// headless adds the names of a Service without an address of its own: those of its
// endpoints.
func (z *builder) headless(name string, endpoints []*discoveryv1.EndpointSlice) {
	for _, slice := range endpoints {
		var targets []string
		known := make(map[string]bool)
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if ready := e.Conditions.Ready; ready != nil && !*ready {
				continue
			}
			for _, text := range e.Addresses {
				ip, err := netip.ParseAddr(text)
				if err != nil {
					continue // a name
				}
				if own := z.endpoint(name, ip, e); !known[own] {
					known[own] = true
					targets = append(targets, own)
				}
			}
		}
		for _, port := range slice.Ports {
			if len(targets) > 0 && port.Name != nil && port.Port != nil && port.Protocol != nil {
				z.port(name, *port.Name, string(*port.Protocol), service{targets, uint16(*port.Port)})
			}
		}
	}
}

// endpoint adds an address, and returns the name of its own that it has.
func (z *builder) endpoint(name string, ip netip.Addr, e *discoveryv1.Endpoint) string {
	host := strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
	if e.Hostname != nil && *e.Hostname != "" {
		host = *e.Hostname
	}
	own := strings.ToLower(host) + "." + name
	z.address(name, ip)
	if z.address(own, ip) && len(z.reverse[ip]) < maxRecords {
		z.reverse[ip] = append(z.reverse[ip], own)
	}
	return own
}

// address tells whether the name did not have the address yet.
func (z *builder) address(name string, ip netip.Addr) bool {
	r := z.at(name)
	if !ip.IsValid() || z.told[named{r, ip}] {
		return false
	}
	z.told[named{r, ip}] = true
	if len(r.addresses) < maxRecords {
		r.addresses = append(r.addresses, ip)
	}
	return true
}

// port adds the name of a port, which only a port with a name has.
func (z *builder) port(name, port, protocol string, s service) {
	if port == "" {
		return
	}
	r := z.at("_" + port + "._" + strings.ToLower(protocol) + "." + name)
	r.services = append(r.services, s)
}

// at returns the records of a name, and sees to it that those above it exist.
func (z *builder) at(name string) *records {
	if r := z.records[name]; r != nil {
		return r
	}
	r := &records{}
	z.records[name] = r
	if _, above, ok := strings.Cut(name, "."); ok && name != Domain {
		z.at(above)
	}
	return r
}

// find returns the records of a name, or nil: there is no such name. One below "pod" is the
// address that it has written in it, if there is its namespace: whether there is the pod is not
// asked (CoreDNS' "pods insecure", which kubeadm sets).
func (z *Zone) find(name string) *records {
	if r := z.records[name]; r != nil {
		return r
	}
	label, namespace, _ := strings.Cut(name, ".")
	rest, ok := strings.CutSuffix(namespace, ".pod."+Domain)
	if !ok || strings.Contains(rest, ".") || z.records[namespace] == nil {
		return nil
	}
	separator := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		separator = "."
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
	if err != nil {
		return nil
	}
	return &records{addresses: []netip.Addr{ip}}
}

// owns tells whether a name is the cluster's to answer.
func owns(name string) bool { return name == Domain || strings.HasSuffix(name, "."+Domain) }

// addressOf returns the address whose name is asked for by its reverse one.
func addressOf(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		ip, err := netip.ParseAddr(strings.Join(labels, "."))
		return ip, err == nil && ip.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := len(rest) - 1; i >= 0; i -= 2 {
		b.WriteByte(rest[i])
		if n := (len(rest)-1-i)/2 + 1; n%4 == 0 && n < 32 {
			b.WriteByte(':')
		}
	}
	ip, err := netip.ParseAddr(b.String())
	return ip, err == nil
}
