// Package backend is how the API itself reaches what stands behind Services: webhooks, and
// the servers of aggregated APIs.
//
// A Service is resolved as kube-apiserver does by default: to its cluster address. Who
// connects to that gets one of the endpoints that are ready, by lot, as kube-proxy gives
// them; a pod is reached through its node, since no address of pods leads anywhere from
// where the API is.
package backend

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/util/proxy"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// Options say where Services lead. All are required.
type Options struct {
	View func() *store.View
	// Pod connects to a TCP port of a pod, as other pods do.
	Pod func(ctx context.Context, pod *corev1.Pod, port uint16) (net.Conn, error)
	// API is how a client in this process reaches the API, which is the Service kubernetes.
	API func() *rest.Config
	// Bounds refuses JSON that takes too much to work on.
	Bounds func([]byte) error
}

// Services are those of a cluster, for the API itself.
type Services struct{ o Options }

// New returns the Services. Nothing is kept of them.
func New(o Options) *Services { return &Services{o} }

// ResolveEndpoint implements webhook.ServiceResolver: where a port of a Service is.
func (s *Services) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	if isAPI(namespace, name, port) {
		return url.Parse(s.o.API().Host)
	}
	return proxy.ResolveCluster(lister{s.o.View()}, namespace, name, port)
}

// isAPI reports whether a Service is the API's own.
func isAPI(namespace, name string, port int32) bool {
	return namespace == corev1.NamespaceDefault && name == "kubernetes" && port == 443
}

// Dial connects to an address that ResolveEndpoint may have returned, or to any other.
func (s *Services) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return dial(ctx, network, address)
	}
	view := s.o.View()
	service, port := find(view, to)
	if service == nil {
		return dial(ctx, network, address)
	}
	chosen, found := Choose(view, service.Namespace, service.Name, port.Name, nil)
	if !found {
		return nil, refused(to)
	}
	if chosen.Pod == nil {
		return dial(ctx, network, net.JoinHostPort(chosen.Address, strconv.Itoa(int(chosen.Port))))
	}
	conn, err := s.o.Pod(ctx, chosen.Pod, chosen.Port)
	switch {
	case err == nil:
		return conn, nil
	case strings.HasSuffix(err.Error(), unix.ECONNREFUSED.Error()): // it may have been told by another process
		return nil, refused(to)
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// refused is what kube-proxy has the kernel say of a Service without endpoints.
func refused(to netip.AddrPort) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}
}

// find returns the Service that has an address, and its port.
func find(view *store.View, at netip.AddrPort) (*corev1.Service, *corev1.ServicePort) {
	ip := at.Addr().String()
	for obj := range view.List(kind.Services, "") {
		service := obj.(*corev1.Service)
		if service.Spec.ClusterIP != ip && !slices.Contains(service.Spec.ClusterIPs, ip) || service.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for i := range service.Spec.Ports {
			port := &service.Spec.Ports[i]
			if port.Port == int32(at.Port()) && (port.Protocol == corev1.ProtocolTCP || port.Protocol == "") {
				return service, port
			}
		}
	}
	return nil, nil
}

// Endpoint is where a connection to a Service may go.
type Endpoint struct {
	Address string
	Port    uint16
	Pod     *corev1.Pod // nil: the address is not said to be a pod's
}

// Choose returns an endpoint of a Service, by the name of the port, that is ready and that takes
// agrees to (nil: to all), by lot. found is whether there is one.
func Choose(view *store.View, namespace, service, port string, takes func(*Endpoint) bool) (chosen Endpoint, found bool) {
	seen := 0
	for obj := range view.List(kind.EndpointSlices, namespace) {
		slice := obj.(*discoveryv1.EndpointSlice)
		if slice.Labels[discoveryv1.LabelServiceName] != service || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		number := portOf(slice, port)
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if number == 0 || len(e.Addresses) == 0 || !ptr.Deref(e.Conditions.Ready, true) {
				continue
			}
			next := Endpoint{Address: e.Addresses[0], Port: number}
			if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
				if next.Pod = podOf(view, ref); next.Pod == nil {
					continue // it is gone, and the slice does not know it yet
				}
			}
			if takes != nil && !takes(&next) {
				continue
			}
			if seen++; rand.IntN(seen) == 0 {
				chosen = next
			}
		}
	}
	return chosen, seen > 0
}

// portOf returns the number that a port of a Service has in a slice; 0: none.
func portOf(slice *discoveryv1.EndpointSlice, name string) uint16 {
	for i := range slice.Ports {
		if p := &slice.Ports[i]; ptr.Deref(p.Name, "") == name {
			return uint16(ptr.Deref(p.Port, 0)) // validated
		}
	}
	return 0
}

// podOf returns the pod that an endpoint is; nil if there is none, or another of that name.
func podOf(view *store.View, ref *corev1.ObjectReference) *corev1.Pod {
	obj, ok := view.Get(kind.Pods.Key(ref.Namespace, ref.Name))
	if !ok || ref.UID != "" && obj.GetUID() != ref.UID {
		return nil
	}
	return obj.(*corev1.Pod)
}

// lister has the library find Services in a state.
type lister struct{ view *store.View }

// List implements listers.ServiceLister: the library does not call it to resolve a Service.
func (l lister) List(selector labels.Selector) ([]*corev1.Service, error) {
	return namespaced{l.view, ""}.List(selector)
}

// Services implements listers.ServiceLister.
func (l lister) Services(namespace string) listers.ServiceNamespaceLister {
	return namespaced{l.view, namespace}
}

type namespaced struct {
	view      *store.View
	namespace string
}

// List implements listers.ServiceNamespaceLister.
func (n namespaced) List(selector labels.Selector) (list []*corev1.Service, err error) {
	for obj := range n.view.List(kind.Services, n.namespace) {
		if selector.Matches(labels.Set(obj.GetLabels())) {
			list = append(list, obj.(*corev1.Service))
		}
	}
	return list, nil
}

// Get implements listers.ServiceNamespaceLister.
func (n namespaced) Get(name string) (*corev1.Service, error) {
	obj, ok := n.view.Get(kind.Services.Key(n.namespace, name))
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("service"), name)
	}
	return obj.(*corev1.Service), nil
}
