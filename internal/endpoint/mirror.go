package endpoint

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/v1/endpoints"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

//lint:file-ignore SA1019 this file is about Endpoints, which clients still read and write

// mirror writes slices of the Endpoints that somebody has made for a Service without a
// selector: one for each subset and family, of no more than 1000 addresses.
func (s *State) mirror(set *change.Set) {
	groups, order, skipped := s.mirrored()
	for _, slice := range s.managedBy(mirrorController) {
		key := string(slice.AddressType) + "\n" + portsKey(slice.Ports)
		g := groups[key]
		if g == nil || g.existing != nil {
			set.Delete(sliceKey(slice), change.RevOf(slice))
			continue
		}
		g.existing = []*discoveryv1.EndpointSlice{slice}
	}
	for _, key := range order {
		g := groups[key]
		next := s.mirrorSlice(g)
		if g.existing == nil {
			set.Create(kind.EndpointSlices.Key(s.Key.Namespace, ""), next)
			continue
		}
		old := g.existing[0]
		if equality.Semantic.DeepEqual(old.Endpoints, next.Endpoints) && equality.Semantic.DeepEqual(old.Labels, next.Labels) &&
			equality.Semantic.DeepEqual(old.Annotations, next.Annotations) && ownedBy(old, s.Endpoints) {
			continue
		}
		changed := old.DeepCopy()
		changed.Endpoints, changed.Labels, changed.Annotations, changed.OwnerReferences = next.Endpoints, next.Labels, next.Annotations, next.OwnerReferences
		changed.Generation++
		set.Update(sliceKey(old), change.RevOf(old), changed)
	}
	if len(set.Writes) > 0 && skipped > 0 {
		set.Note(change.Note{
			Regarding: corev1.ObjectReference{Kind: "Endpoints", APIVersion: "v1", Namespace: s.Key.Namespace, Name: s.Key.Name, UID: s.Endpoints.UID},
			Component: "endpoint-slice-mirroring-controller", Type: corev1.EventTypeWarning, Reason: reason.TooManyAddressesToMirror,
			Message: fmt.Sprintf("A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxPerMirror, skipped),
		})
	}
}

// mirrorGroup is what becomes one slice.
type mirrorGroup struct {
	group
	family discoveryv1.AddressType
}

// mirrored returns what the Endpoints say, by family and ports, and how many addresses
// were too many.
func (s *State) mirrored() (groups map[string]*mirrorGroup, order []string, skipped int) {
	groups = map[string]*mirrorGroup{}
	e := s.Endpoints
	if e == nil || e.Labels[discoveryv1.LabelSkipMirror] == "true" || e.Annotations[leaderAnnotation] != "" {
		return groups, nil, 0
	}
	for _, subset := range endpoints.RepackSubsets(e.Subsets) {
		ports, added := mirrorPorts(subset.Ports), 0
		for i, list := range [][]corev1.EndpointAddress{subset.Addresses, subset.NotReadyAddresses} {
			for j := range list {
				addr, err := netip.ParseAddr(list[j].IP)
				if err != nil || added == maxPerMirror {
					skipped++
					continue
				}
				added++
				family := discoveryv1.AddressTypeIPv4
				if !addr.Unmap().Is4() {
					family = discoveryv1.AddressTypeIPv6
				}
				key := string(family) + "\n" + portsKey(ports)
				if groups[key] == nil {
					groups[key] = &mirrorGroup{group: group{ports: ports}, family: family}
					order = append(order, key)
				}
				groups[key].endpoints = append(groups[key].endpoints, mirrorAddress(&list[j], addr, i == 0))
			}
		}
	}
	return groups, order, skipped
}

func mirrorAddress(a *corev1.EndpointAddress, addr netip.Addr, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{addr.Unmap().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

func mirrorPorts(ports []corev1.EndpointPort) []discoveryv1.EndpointPort {
	mirrored := []discoveryv1.EndpointPort{}
	for _, p := range ports {
		mirrored = append(mirrored, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol})
	}
	return mirrored
}

// mirrorSlice is the slice of a group as it is created.
func (s *State) mirrorSlice(g *mirrorGroup) *discoveryv1.EndpointSlice {
	labels, annotations := map[string]string{}, map[string]string{}
	for key, value := range s.Endpoints.Labels {
		labels[key] = value
	}
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = s.Endpoints.Name, mirrorController
	for key, value := range s.Endpoints.Annotations {
		if key != corev1.EndpointsLastChangeTriggerTime && key != corev1.LastAppliedConfigAnnotation {
			annotations[key] = value
		}
	}
	owner := metav1.NewControllerRef(s.Endpoints, corev1.SchemeGroupVersion.WithKind("Endpoints"))
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Key.Namespace, GenerateName: prefix(s.Key.Name), Labels: labels, Annotations: annotations, OwnerReferences: []metav1.OwnerReference{*owner},
		},
		AddressType: g.family, Ports: g.ports, Endpoints: g.endpoints,
	}
}
