// Package endpoint is the core of EndpointSlices and Endpoints: which pods stand behind a
// Service, and whether one may be sent requests.
//
// Decide is asked about one Service at a time. Of a Service with a selector it makes
// slices of up to 100 endpoints, and the Endpoints object that older clients read, of up
// to 1000. Of one without, it mirrors the Endpoints that somebody has written into slices.
// What changes is written, and nothing else: a pod that becomes ready changes one slice.
//
// It refuses to publish addresses that mean something else on each machine (loopback,
// link-local), as the API does. Where requests go is not decided here.
package endpoint

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Who writes what, as in Kubernetes.
const (
	sliceController    = "endpointslice-controller.k8s.io"
	mirrorController   = "endpointslicemirroring-controller.k8s.io"
	endpointController = "endpoint-controller"
	labelEndpointsBy   = "endpoints.kubernetes.io/managed-by"
	leaderAnnotation   = "control-plane.alpha.kubernetes.io/leader"
)

// Both kinds of objects have limits of their own.
const (
	maxPerSlice  = 100
	maxPerMirror = 1000
	maxCapacity  = 1000 // of an Endpoints object
)

// State is what there is about one Service.
type State struct {
	// Key names the Service; Service is nil when it is gone.
	Key     change.Key
	Service *corev1.Service
	// Pods are those that its selector matches, in the order of their names.
	Pods []*corev1.Pod
	// Slices are all that name the Service, in the order of their names.
	Slices []*discoveryv1.EndpointSlice
	// Endpoints is the object of the Service's name, or nil.
	//lint:ignore SA1019 clients still read them
	Endpoints *corev1.Endpoints
	// Zone returns the zone of a node, "" if it has none, and whether there is such a node.
	Zone func(node string) (zone string, ok bool)
}

// Decide brings the slices and the Endpoints of a Service to what they should be.
func Decide(s State) change.Set {
	var set change.Set
	switch {
	case s.Service == nil:
		if s.Endpoints != nil && s.Endpoints.Annotations[leaderAnnotation] == "" {
			set.Delete(kind.EndpointsOf.Key(s.Key.Namespace, s.Key.Name), change.RevOf(s.Endpoints))
		}
	case addressless(s.Service):
		// It is from a time when Services had no addresses. To be written is all that it
		// takes to get one.
		next := s.Service.DeepCopy()
		next.Spec.IPFamilies, next.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol}, ptr.To(corev1.IPFamilyPolicySingleStack)
		set.Update(s.Key, change.RevOf(s.Service), next)
		return set
	case s.Service.Spec.Type == corev1.ServiceTypeExternalName:
		// It is a name for what is elsewhere; what it has had stays, as in Kubernetes.
	case len(s.Service.Spec.Selector) == 0:
		s.mirror(&set)
	default:
		for _, slice := range s.managedBy(mirrorController) {
			set.Delete(sliceKey(slice), change.RevOf(slice))
		}
		s.slices(&set)
		s.endpoints(&set)
	}
	if len(set.Writes) > 0 && s.Service != nil {
		set.Guards = append(set.Guards, change.Guard{Key: s.Key, Rev: change.RevOf(s.Service)})
	}
	return set
}

// retry is when it is tried again to write what was refused.
const retry = 10 * time.Second

// Refused says why the slices of a Service cannot be written, and asks to try again.
func Refused(now time.Time, service *corev1.Service, why error) change.Set {
	var set change.Set
	set.Note(change.Note{
		Regarding: corev1.ObjectReference{Kind: "Service", APIVersion: "v1", Namespace: service.Namespace, Name: service.Name, UID: service.UID},
		Component: "endpoint-slice-controller", Type: corev1.EventTypeWarning, Reason: reason.FailedToUpdateEndpointSlices,
		Message: fmt.Sprintf("Error updating Endpoint Slices for Service %s/%s: %v", service.Namespace, service.Name, why),
	})
	set.Wake(now.Add(retry))
	return set
}

// Concerns reports whether a change of a pod is one of what Services see of it. old and pod
// may be nil, for one that comes or goes.
func Concerns(old, pod *corev1.Pod) bool {
	was, is := published(old), published(pod)
	if !was && !is {
		return false
	}
	if was != is {
		return true
	}
	return ready(old) != ready(pod) || (old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) ||
		old.UID != pod.UID || !sameIPs(old, pod) || !labels.Equals(old.Labels, pod.Labels) ||
		old.Spec.NodeName != pod.Spec.NodeName || old.Spec.Hostname != pod.Spec.Hostname || old.Spec.Subdomain != pod.Spec.Subdomain
}

// Selects reports whether a Service is for a pod with these labels.
func Selects(service *corev1.Service, of map[string]string) bool {
	selector := service.Spec.Selector
	return len(selector) > 0 && labels.SelectorFromValidatedSet(selector).Matches(labels.Set(of))
}

// published reports whether a pod is one that may stand in a slice: it has an address, and
// has not ended.
func published(pod *corev1.Pod) bool {
	return pod != nil && (pod.Status.PodIP != "" || len(pod.Status.PodIPs) > 0) && !kind.PodEnded(pod)
}

func sameIPs(a, b *corev1.Pod) bool {
	if len(a.Status.PodIPs) != len(b.Status.PodIPs) || a.Status.PodIP != b.Status.PodIP {
		return false
	}
	for i := range a.Status.PodIPs {
		if a.Status.PodIPs[i] != b.Status.PodIPs[i] {
			return false
		}
	}
	return true
}

func ready(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// address returns the pod's address of a family, in its usual form.
func address(pod *corev1.Pod, six bool) (string, bool) {
	ips := pod.Status.PodIPs
	if len(ips) == 0 {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, ip := range ips {
		addr, err := netip.ParseAddr(ip.IP)
		if err == nil && addr.Unmap().Is4() != six && Publishable(addr) {
			return addr.Unmap().String(), true
		}
	}
	return "", false
}

// Publishable reports whether an address means the same on each machine. (The API refuses
// others in an EndpointSlice.)
func Publishable(addr netip.Addr) bool {
	return !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() && !addr.IsLinkLocalMulticast()
}

func reference(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// hostname is the name under which the pod is found below the Service's, "" if it has none.
func hostname(pod *corev1.Pod, service *corev1.Service) string {
	if pod.Spec.Subdomain != service.Name {
		return ""
	}
	return pod.Spec.Hostname
}

// addressless reports whether a Service lacks the address that it has to have.
func addressless(service *corev1.Service) bool {
	return service.Spec.Type != corev1.ServiceTypeExternalName && service.Spec.ClusterIP == ""
}

// headless reports whether a Service has no address of its own.
func headless(service *corev1.Service) bool {
	return service.Spec.ClusterIP == corev1.ClusterIPNone || service.Spec.ClusterIP == ""
}

// managedBy returns the slices of one of those who write them.
func (s *State) managedBy(controller string) []*discoveryv1.EndpointSlice {
	var own []*discoveryv1.EndpointSlice
	for _, slice := range s.Slices {
		if slice.Labels[discoveryv1.LabelManagedBy] == controller {
			own = append(own, slice)
		}
	}
	return own
}

func sliceKey(slice *discoveryv1.EndpointSlice) change.Key {
	return kind.EndpointSlices.Key(slice.Namespace, slice.Name)
}

// ownedBy reports whether the slice names an object as its owner.
func ownedBy(slice *discoveryv1.EndpointSlice, owner metav1.Object) bool {
	for i := range slice.OwnerReferences {
		if slice.OwnerReferences[i].UID == owner.GetUID() {
			return true
		}
	}
	return false
}

// Ours reports whether an Endpoints object was written by this package.
func Ours(endpoints metav1.Object) bool {
	return endpoints.GetLabels()[labelEndpointsBy] == endpointController
}
