package endpoint

import (
	"maps"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/v1/endpoints"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

//lint:file-ignore SA1019 this file is about Endpoints, which clients still read and write

// endpoints writes the Endpoints object of a Service with a selector.
func (s *State) endpoints(set *change.Set) {
	next := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: s.Key.Namespace, Name: s.Key.Name}}
	if s.Endpoints != nil {
		next = s.Endpoints.DeepCopy()
	}
	next.Subsets = endpoints.RepackSubsets(s.subsets())
	next.Labels = maps.Clone(s.Service.Labels)
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	delete(next.Labels, corev1.IsHeadlessService)
	if headless(s.Service) {
		next.Labels[corev1.IsHeadlessService] = ""
	}
	next.Labels[labelEndpointsBy] = endpointController
	delete(next.Annotations, corev1.EndpointsOverCapacity)
	if truncate(next.Subsets) {
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[corev1.EndpointsOverCapacity] = "truncated"
	}
	key := kind.EndpointsOf.Key(s.Key.Namespace, s.Key.Name)
	switch {
	case s.Endpoints == nil:
		set.Create(key, next)
	case !equality.Semantic.DeepEqual(next, s.Endpoints):
		set.Update(key, change.RevOf(s.Endpoints), next)
	}
}

// subsets returns one subset for each port of each pod; they are repacked afterwards.
func (s *State) subsets() []corev1.EndpointSubset {
	var all []corev1.EndpointSubset
	service, six := s.Service, families(s.Service)[0] == "IPv6"
	for _, pod := range s.Pods {
		if !published(pod) || pod.DeletionTimestamp != nil && !service.Spec.PublishNotReadyAddresses {
			continue
		}
		ip, ok := address(pod, six)
		if !ok {
			continue
		}
		at := corev1.EndpointAddress{IP: ip, TargetRef: reference(pod), Hostname: hostname(pod, service)}
		if pod.Spec.NodeName != "" {
			at.NodeName = &pod.Spec.NodeName
		}
		add := func(ports ...corev1.EndpointPort) {
			subset := corev1.EndpointSubset{Ports: ports}
			if service.Spec.PublishNotReadyAddresses || ready(pod) {
				subset.Addresses = []corev1.EndpointAddress{at}
			} else {
				subset.NotReadyAddresses = []corev1.EndpointAddress{at}
			}
			all = append(all, subset)
		}
		if len(service.Spec.Ports) == 0 && service.Spec.ClusterIP == corev1.ClusterIPNone {
			add()
		}
		for i := range service.Spec.Ports {
			p := &service.Spec.Ports[i]
			if number, ok := findPort(pod, p); ok {
				add(corev1.EndpointPort{Name: p.Name, Port: number, Protocol: p.Protocol, AppProtocol: p.AppProtocol})
			}
		}
	}
	return all
}

// truncate leaves no more addresses than an Endpoints object may have, of each subset the
// same part, and those that are ready first. It reports whether something had to go.
func truncate(subsets []corev1.EndpointSubset) bool {
	ready, notReady := 0, 0
	for i := range subsets {
		ready += len(subsets[i].Addresses)
		notReady += len(subsets[i].NotReadyAddresses)
	}
	if ready+notReady <= maxCapacity {
		return false
	}
	most, total := maxCapacity-ready, notReady
	cutReady := ready > maxCapacity
	if cutReady {
		most, total = maxCapacity, ready
	}
	left := most
	share := func(list []corev1.EndpointAddress) []corev1.EndpointAddress {
		n := int(math.Ceil(float64(len(list)) / float64(total) * float64(most)))
		n = min(n, left, len(list))
		left -= n
		return list[:n]
	}
	for i := range subsets {
		if cutReady {
			subsets[i].Addresses, subsets[i].NotReadyAddresses = share(subsets[i].Addresses), nil
		} else {
			subsets[i].NotReadyAddresses = share(subsets[i].NotReadyAddresses)
		}
	}
	return true
}
