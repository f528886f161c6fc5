package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/backend"
)

// proxied is the /proxy of pods, Services and nodes: requests of any method that are passed on to
// who listens there. The rules are Kubernetes', and so is what passes on (apimachinery's
// UpgradeAwareHandler): links and redirects lead back here, and what a browser may read of other
// origins is this API's to say.
type proxied struct {
	of      *resource
	options func() runtime.Object
	path    func(options runtime.Object) string
	// locate returns where a name leads: "name", "name:port" or "scheme:name:port".
	locate func(ctx context.Context, id string) (*backendAt, error)
}

// backendAt is who listens: its URL, and how it is connected to.
type backendAt struct {
	url  url.URL
	dial func(ctx context.Context, port uint16) (net.Conn, error)
	// own answers in the place of somebody who would listen on a cluster.
	own http.Handler
}

// newProxy returns the /proxy of a resource.
func newProxy(of *resource) rest.Storage {
	switch of.kind.Resource {
	case kind.Services:
		return &proxied{of: of, options: func() runtime.Object { return &corev1.ServiceProxyOptions{} },
			path: func(o runtime.Object) string { return o.(*corev1.ServiceProxyOptions).Path }, locate: of.locateService}
	case kind.Nodes:
		return &proxied{of: of, options: func() runtime.Object { return &corev1.NodeProxyOptions{} },
			path: func(o runtime.Object) string { return o.(*corev1.NodeProxyOptions).Path }, locate: of.locateNode}
	}
	return &proxied{of: of, options: func() runtime.Object { return &corev1.PodProxyOptions{} },
		path: func(o runtime.Object) string { return o.(*corev1.PodProxyOptions).Path }, locate: of.locatePod}
}

var _ interface {
	rest.Storage
	rest.Connecter
} = &proxied{}

// New implements rest.Storage.
func (p *proxied) New() runtime.Object { return p.options() }

// Destroy implements rest.Storage.
func (p *proxied) Destroy() {}

// NewConnectOptions implements rest.Connecter.
func (p *proxied) NewConnectOptions() (runtime.Object, bool, string) {
	return p.options(), true, "path"
}

// ConnectMethods implements rest.Connecter.
func (p *proxied) ConnectMethods() []string {
	return []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
}

// Connect implements rest.Connecter.
func (p *proxied) Connect(ctx context.Context, id string, options runtime.Object, answer rest.Responder) (http.Handler, error) {
	at, err := p.locate(ctx, id)
	if err != nil {
		return nil, err
	}
	path := p.path(options)
	if at.own != nil {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = cmp.Or(path, "/"), ""
			at.own.ServeHTTP(w, r)
		}), nil
	}
	at.url.Path = utilnet.JoinPreservingTrailingSlash(at.url.Path, path)
	return p.of.sessions.counted(ctx, p.of.passOn(at, answer), answer), nil
}

// passOn passes a request on. Each has a connection of its own: the same address may be another
// pod's a moment later, or on another node.
func (sh *shared) passOn(at *backendAt, answer rest.Responder) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		life, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(sh.stop, cancel)()
		head := &backend.HeadLimit{}
		transport := &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				to, err := netip.ParseAddrPort(address)
				if err != nil {
					return nil, err
				}
				conn, err := at.dial(ctx, to.Port())
				if err != nil {
					return nil, err
				}
				context.AfterFunc(life, func() { conn.Close() })
				return head.Of(conn), nil
			},
			// Like kube-apiserver: who is reached by an address cannot be known by a name.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: backend.MaxHead,
		}
		h := proxy.NewUpgradeAwareHandler(&at.url, modestPages{transport}, true, false, backendErrors{answer})
		if upgrades(r) {
			w = head.Lifted(w)
		} else {
			head.Lift() // the transport has a limit of its own
		}
		h.ServeHTTP(w, r.WithContext(life))
	})
}

// backendErrors answers with what went wrong behind the proxy. It is nobody's fault here, so that
// it is not logged as the library's accidents are.
type backendErrors struct{ answer rest.Responder }

// Error implements proxy.ErrorResponder.
func (b backendErrors) Error(_ http.ResponseWriter, _ *http.Request, err error) {
	if !errors.As(err, new(apierrors.APIStatus)) {
		err = &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonUnknown, Message: err.Error(),
		}}
	}
	b.answer.Error(err)
}

// numbered reports whether a port is a number, or left out. A URL with any other is none, of which
// the library would make a panic.
func numbered(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil
}

// dialAddress connects from this process.
func dialAddress(address string) func(ctx context.Context, port uint16) (net.Conn, error) {
	return func(ctx context.Context, port uint16) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	}
}

// dialerOf connects to a pod: through its node, if it has a network of its own; else by the
// address that it shares with the machine, so that what listens on the loopback is not reached.
func (sh *shared) dialerOf(pod *corev1.Pod) func(ctx context.Context, port uint16) (net.Conn, error) {
	if pod.Spec.HostNetwork || pod.Status.PodIP == pod.Status.HostIP {
		return dialAddress(pod.Status.PodIP)
	}
	return func(ctx context.Context, port uint16) (net.Conn, error) { return sh.dialPod(ctx, pod, port) }
}

var errAddress = apierrors.NewBadRequest("address not allowed")

// global reports whether an address is one that requests may be passed on to: nobody's loopback,
// and no link's.
func global(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.IsGlobalUnicast()
}

func (r *resource) locatePod(ctx context.Context, id string) (*backendAt, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid || !numbered(port) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	obj, err := r.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; port == "" && len(ports) > 0 {
			port = strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	if !global(pod.Status.PodIP) {
		return nil, errAddress
	}
	host := pod.Status.PodIP
	if port != "" {
		host = net.JoinHostPort(host, port)
	}
	return &backendAt{url: url.URL{Scheme: scheme, Host: host}, dial: r.dialerOf(pod)}, nil
}

func (r *resource) locateService(ctx context.Context, id string) (*backendAt, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		obj, err := r.Get(ctx, name, &metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		named := servicePort(obj.(*corev1.Service), number)
		if named == nil {
			return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
		}
		port = named.Name
	}
	namespace := genericapirequest.NamespaceValue(ctx)
	to, found := backend.Choose(r.store.View(), namespace, name, port, func(e *backend.Endpoint) bool { return isItself(e, namespace) })
	if !found {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	return &backendAt{url: url.URL{Scheme: scheme, Host: net.JoinHostPort(to.Address, strconv.Itoa(int(to.Port)))}, dial: r.dialerOf(to.Pod)}, nil
}

func servicePort(service *corev1.Service, number int64) *corev1.ServicePort {
	for i := range service.Spec.Ports {
		if p := &service.Spec.Ports[i]; int64(p.Port) == number {
			return p
		}
	}
	return nil
}

// isItself reports whether an endpoint is the pod of the namespace that it says it is: whoever
// writes EndpointSlices shall not have requests passed on to what he cannot reach.
func isItself(e *backend.Endpoint, namespace string) bool {
	if e.Pod == nil || e.Pod.Namespace != namespace || !global(e.Address) {
		return false
	}
	s := &e.Pod.Status
	return s.PodIP == e.Address || slices.Contains(s.PodIPs, corev1.PodIP{IP: e.Address})
}

// kubeletPort is where a kubelet listens.
const kubeletPort = "10250"

func (r *resource) locateNode(ctx context.Context, id string) (*backendAt, error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid || !numbered(port) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	obj, err := r.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if port == "" || port == kubeletPort {
		if r.nodes == nil || r.nodes(name) == nil {
			return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: node %q is not connected", name))
		}
		return &backendAt{own: r.kubelet(name)}, nil
	}
	for _, a := range obj.(*corev1.Node).Status.Addresses {
		if a.Type == corev1.NodeInternalIP && global(a.Address) {
			return &backendAt{url: url.URL{Scheme: scheme, Host: net.JoinHostPort(a.Address, port)}, dial: dialAddress(a.Address)}, nil
		}
	}
	return nil, errAddress
}

// kubelet answers for the API of a kubelet, which nothing here has or needs: whether it is well, and
// which pods it has, and which of them run. The rest is not found, as on one whose debugging handlers are off.
func (sh *shared) kubelet(node string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok")) // who has gone needs no answer
	})
	serve := func(name string, want func(*corev1.Pod) bool) {
		pods := func(w http.ResponseWriter, _ *http.Request) {
			list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
			for obj := range sh.store.View().List(kind.Pods, "") {
				if pod := obj.(*corev1.Pod); pod.Spec.NodeName == node && want(pod) {
					list.Items = append(list.Items, *pod)
				}
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(list) // the same
		}
		mux.HandleFunc("GET /"+name, pods)
		mux.HandleFunc("GET /"+name+"/{$}", pods)
	}
	serve(string(kind.Pods), func(*corev1.Pod) bool { return true })
	serve("runningpods", running)
	return mux
}

// running reports whether a container of the pod runs.
func running(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		if slices.ContainsFunc(list, func(s corev1.ContainerStatus) bool { return s.State.Running != nil }) {
			return true
		}
	}
	return false
}
