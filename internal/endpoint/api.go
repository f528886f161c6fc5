package endpoint

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

//lint:file-ignore SA1019 the API's Endpoints are read by clients

// APIName is what the Service of the API is called, and all that belongs to it.
const APIName = "kubernetes"

// API is where the API is reached: what stands behind the Service kubernetes in the
// namespace default, by which programs in pods find it. Nobody but Kubernetes' API server
// writes these objects there, and here this.
type API struct {
	// At is the API's address, which pods can reach. Not valid: the Service is not made.
	At netip.AddrPort
}

// Keys are those of the objects that API has.
func (a API) Keys() []change.Key {
	return []change.Key{
		kind.Services.Key(metav1.NamespaceDefault, APIName), kind.EndpointsOf.Key(metav1.NamespaceDefault, APIName), kind.EndpointSlices.Key(metav1.NamespaceDefault, APIName),
	}
}

// Decide brings the objects to what they should be, get returns one as it is. They are
// complete but for uid and time, so that they can be stored as they are.
func (a API) Decide(get func(key change.Key) (change.Object, bool)) change.Set {
	var set change.Set
	if !a.At.IsValid() {
		return set
	}
	keys := a.Keys()
	for i, want := range []change.Object{a.service(), a.endpoints(), a.slice()} {
		stored, ok := get(keys[i])
		if !ok {
			set.Create(keys[i], want)
			continue
		}
		next := stored.DeepCopyObject().(change.Object)
		switch next := next.(type) {
		case *corev1.Service:
			next.Spec.Ports = want.(*corev1.Service).Spec.Ports
		case *corev1.Endpoints:
			next.Subsets = want.(*corev1.Endpoints).Subsets
		case *discoveryv1.EndpointSlice:
			w := want.(*discoveryv1.EndpointSlice)
			next.Endpoints, next.Ports = w.Endpoints, w.Ports
		}
		if !equality.Semantic.DeepEqual(next, stored) {
			set.Update(keys[i], change.RevOf(stored), next)
		}
	}
	return set
}

func apiMeta(labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: APIName, Labels: labels}
}

func (a API) service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: apiMeta(map[string]string{"provider": "kubernetes", "component": "apiserver"}),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: kind.APIServiceAddress, ClusterIPs: []string{kind.APIServiceAddress},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
			Ports:           []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(int32(a.At.Port()))}},
			SessionAffinity: corev1.ServiceAffinityNone, InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster),
		},
	}
}

func (a API) endpoints() *corev1.Endpoints {
	return &corev1.Endpoints{
		ObjectMeta: apiMeta(map[string]string{discoveryv1.LabelSkipMirror: "true"}),
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: a.At.Addr().String()}},
			Ports:     []corev1.EndpointPort{{Name: "https", Port: int32(a.At.Port()), Protocol: corev1.ProtocolTCP}},
		}},
	}
}

func (a API) slice() *discoveryv1.EndpointSlice {
	family := discoveryv1.AddressTypeIPv4
	if a.At.Addr().Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  apiMeta(map[string]string{discoveryv1.LabelServiceName: APIName}),
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{a.At.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(int32(a.At.Port())), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	slice.Generation = 1
	return slice
}
