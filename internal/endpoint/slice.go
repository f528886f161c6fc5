package endpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// slices writes the slices of a Service with a selector.
func (s *State) slices(set *change.Set) {
	byFamily := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	families := families(s.Service)
	for _, slice := range s.managedBy(sliceController) {
		if !slices.Contains(families, slice.AddressType) || !ownedBy(slice, s.Service) {
			set.Delete(sliceKey(slice), change.RevOf(slice))
			continue
		}
		byFamily[slice.AddressType] = append(byFamily[slice.AddressType], slice)
	}
	for _, family := range families {
		s.slicesOf(set, family, byFamily[family])
	}
}

func families(service *corev1.Service) []discoveryv1.AddressType {
	var all []discoveryv1.AddressType
	for _, family := range service.Spec.IPFamilies {
		all = append(all, discoveryv1.AddressType(family))
	}
	if len(all) == 0 { // it was stored before Services had families
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
	}
	return all
}

// group are the endpoints that have the same ports, which is what a slice is about. Pods
// differ when a port is known by its name.
type group struct {
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
	existing  []*discoveryv1.EndpointSlice
}

// slicesOf writes those of one family of addresses.
func (s *State) slicesOf(set *change.Set, family discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice) {
	groups, order := s.groups(family)
	for _, slice := range existing {
		key := portsKey(slice.Ports)
		if groups[key] == nil {
			groups[key] = &group{ports: slice.Ports}
			order = append(order, key)
		}
		groups[key].existing = append(groups[key].existing, slice)
	}
	var packed []*packing
	left := 0
	for _, key := range order {
		p := pack(groups[key])
		packed = append(packed, p)
		left += p.size()
	}
	spare := (*discoveryv1.EndpointSlice)(nil)
	for _, p := range packed {
		for _, slice := range p.emptied {
			if left == 0 && spare == nil && len(slice.Ports) == 0 {
				spare = slice // that is how a Service without endpoints has one
				s.update(set, slice, nil)
				continue
			}
			set.Delete(sliceKey(slice), change.RevOf(slice))
		}
		for i, slice := range p.kept {
			s.update(set, slice, p.contents[i])
		}
		for _, endpoints := range p.added {
			s.create(set, family, p.ports, endpoints)
		}
	}
	if left == 0 && spare == nil {
		s.create(set, family, []discoveryv1.EndpointPort{}, []discoveryv1.Endpoint{})
	}
}

// groups returns the endpoints that the pods make, by their ports, in the order of the pods.
func (s *State) groups(family discoveryv1.AddressType) (map[string]*group, []string) {
	groups, order := map[string]*group{}, []string(nil)
	for _, pod := range s.Pods {
		if !published(pod) {
			continue
		}
		zone, known := s.Zone(pod.Spec.NodeName)
		if !known && !s.Service.Spec.PublishNotReadyAddresses {
			continue
		}
		ip, ok := address(pod, family == discoveryv1.AddressTypeIPv6)
		if !ok {
			continue
		}
		ports := portsOf(s.Service, pod)
		key := portsKey(ports)
		if groups[key] == nil {
			groups[key] = &group{ports: ports}
			order = append(order, key)
		}
		groups[key].endpoints = append(groups[key].endpoints, endpointOf(s.Service, pod, ip, zone))
	}
	return groups, order
}

func endpointOf(service *corev1.Service, pod *corev1.Pod, ip, zone string) discoveryv1.Endpoint {
	serving, terminating := ready(pod), pod.DeletionTimestamp != nil
	e := discoveryv1.Endpoint{
		Addresses: []string{ip},
		Conditions: discoveryv1.EndpointConditions{
			Ready: ptr.To(service.Spec.PublishNotReadyAddresses || serving && !terminating), Serving: &serving, Terminating: &terminating,
		},
		TargetRef: reference(pod),
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = ptr.To(pod.Spec.NodeName)
	}
	if zone != "" {
		e.Zone = &zone
	}
	if name := hostname(pod, service); name != "" {
		e.Hostname = &name
	}
	e.Hints = hints(ptr.Deref(service.Spec.TrafficDistribution, ""), &e)
	return e
}

// hints says for whom an endpoint is, as a Service's trafficDistribution wants it.
func hints(distribution string, e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	var h discoveryv1.EndpointHints
	switch distribution {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if e.NodeName != nil {
			h.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
		}
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
	default:
		return nil
	}
	if e.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	if len(h.ForNodes)+len(h.ForZones) == 0 {
		return nil
	}
	return &h
}

// portsOf returns the ports of a Service as one pod has them; one that the pod does not
// have is left out.
func portsOf(service *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for i := range service.Spec.Ports {
		p := &service.Spec.Ports[i]
		if number, ok := findPort(pod, p); ok {
			ports = append(ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: &number, Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol})
		}
	}
	return ports
}

// findPort returns the number of a pod's port that a Service's stands for: of that name
// in a container, or in one of those that start before the others and go on.
func findPort(pod *corev1.Pod, p *corev1.ServicePort) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		return p.TargetPort.IntVal, true
	}
	in := func(c *corev1.Container) (int32, bool) {
		for i := range c.Ports {
			if port := &c.Ports[i]; port.Name == p.TargetPort.StrVal && cmp.Or(port.Protocol, corev1.ProtocolTCP) == p.Protocol {
				return port.ContainerPort, true
			}
		}
		return 0, false
	}
	for i := range pod.Spec.Containers {
		if number, ok := in(&pod.Spec.Containers[i]); ok {
			return number, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if number, ok := in(c); ok {
			return number, true
		}
	}
	return 0, false
}

// portsKey is the same for the same ports, in whatever order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	all := make([]string, len(ports))
	for i, p := range ports {
		all[i] = fmt.Sprintf("%q %d %s %q", ptr.Deref(p.Name, ""), ptr.Deref(p.Port, -1), ptr.Deref(p.Protocol, ""), ptr.Deref(p.AppProtocol, ""))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// create adds a slice of a Service; its name is made when the set is completed.
func (s *State) create(set *change.Set, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint) {
	owner := metav1.NewControllerRef(s.Service, corev1.SchemeGroupVersion.WithKind("Service"))
	set.Create(kind.EndpointSlices.Key(s.Key.Namespace, ""), &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Key.Namespace, GenerateName: prefix(s.Key.Name), Labels: sliceLabels(s.Service), OwnerReferences: []metav1.OwnerReference{*owner},
		},
		AddressType: family, Ports: ports, Endpoints: endpoints,
	})
}

// update writes what is in a slice, if that is something else than before.
func (s *State) update(set *change.Set, slice *discoveryv1.EndpointSlice, endpoints []discoveryv1.Endpoint) {
	labels := sliceLabels(s.Service)
	if equality.Semantic.DeepEqual(slice.Endpoints, endpoints) && equality.Semantic.DeepEqual(slice.Labels, labels) {
		return
	}
	next := slice.DeepCopy()
	next.Endpoints, next.Labels = endpoints, labels
	next.Generation++
	set.Update(sliceKey(slice), change.RevOf(slice), next)
}

// sliceLabels are those of the Service, and what says that it is one of its slices.
func sliceLabels(service *corev1.Service) map[string]string {
	labels := map[string]string{}
	for key, value := range service.Labels {
		labels[key] = value
	}
	delete(labels, corev1.IsHeadlessService)
	if headless(service) {
		labels[corev1.IsHeadlessService] = ""
	}
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = service.Name, sliceController
	return labels
}

// prefix is what the name of a slice begins with.
func prefix(service string) string {
	if dashed := service + "-"; len(validation.NameIsDNSSubdomain(dashed, true)) == 0 {
		return dashed
	}
	return service
}
