package aggregate

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	apiserverproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/transport"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/backend"
	"github.com/sampan-batch/sampan/internal/store"
)

// Handler answers what other servers serve, and leaves all else to next. It stands behind the
// API's own filters.
func (s *Server) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if own := "/apis/" + apiregistrationv1.GroupName; r.URL.Path == own || strings.HasPrefix(r.URL.Path, own+"/") {
			s.registerLocal(r)
			next.ServeHTTP(w, r) // whatever an APIService says: by nothing else could it be taken back
			return
		}
		view := s.Store.View()
		if view.Len(kind.APIServices) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if api := named(view, r.URL.Path); api != nil {
			s.proxy(w, r, api)
			return
		}
		if group, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/"), "/apis/"); ok && !strings.Contains(group, "/") {
			if g := groupOf(view, group); g != nil {
				discovery.NewAPIGroupHandler(s.Serializer, *g).ServeHTTP(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// nameOf returns the name of the APIService that a path is about; "" if it is about none.
func nameOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/apis/")
	if !ok {
		if path == "/api" || strings.HasPrefix(path, "/api/") {
			return "v1."
		}
		return ""
	}
	group, rest, _ := strings.Cut(rest, "/")
	version, _, _ := strings.Cut(rest, "/")
	if group == "" || version == "" {
		return ""
	}
	return version + "." + group
}

// groupOf returns what there is to discover of a group of which another server has a version;
// nil if none has.
func groupOf(view *store.View, group string) *metav1.APIGroup {
	var all []*apiregistrationv1.APIService
	remote := false
	for obj := range view.List(kind.APIServices, "") {
		if api := obj.(*apiregistrationv1.APIService); api.Spec.Group == group {
			all = append(all, api)
			remote = remote || api.Spec.Service != nil
		}
	}
	if !remote || group == "" {
		return nil
	}
	g := &metav1.APIGroup{Name: group}
	for _, api := range helper.SortedByGroupAndVersion(all)[0] {
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: group + "/" + api.Spec.Version, Version: api.Spec.Version})
	}
	g.PreferredVersion = g.Versions[0]
	return g
}

// proxy has the server of an APIService answer, in Kubernetes' words if it cannot.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request, api *apiregistrationv1.APIService) {
	who, ok := genericapirequest.UserFrom(r.Context())
	if !ok {
		http.Error(w, "missing user", http.StatusInternalServerError)
		return
	}
	if !helper.IsAPIServiceConditionTrue(api, apiregistrationv1.Available) {
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	s.forward(w, r, &api.Spec, who)
}

func (s *Server) forward(w http.ResponseWriter, r *http.Request, spec *apiregistrationv1.APIServiceSpec, who user.Info) {
	upgrade := httpstream.IsUpgradeRequest(r)
	through, err := s.transport(spec)
	if upgrade {
		head := &backend.HeadLimit{}
		through, err = s.transportOnce(spec, head)
		w = head.Lifted(w)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	location, err := s.locate(spec, r.URL.Path)
	if err != nil {
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	location.RawQuery = r.URL.Query().Encode()
	request, cancel := apiserverproxy.NewRequestForProxy(location, r)
	defer cancel()
	through = transport.NewAuthProxyRoundTripper(who.GetName(), who.GetUID(), who.GetGroups(), who.GetExtra(), through)
	if upgrade { // that connection is made past the transport
		transport.SetAuthProxyHeaders(request, who.GetName(), who.GetUID(), who.GetGroups(), who.GetExtra())
	}
	handler := proxy.NewUpgradeAwareHandler(location, through, true, upgrade, responder{w})
	handler.RejectForwardingRedirects = true
	handler.ServeHTTP(w, request)
}

// transport returns the connections to a server, which the library keeps.
func (s *Server) transport(spec *apiregistrationv1.APIServiceSpec) (http.RoundTripper, error) {
	config, err := s.transportConfig(spec)
	if err != nil {
		return nil, err
	}
	return transport.New(config)
}

// transportOnce is transport for one request that is to become another protocol.
func (s *Server) transportOnce(spec *apiregistrationv1.APIServiceSpec, head *backend.HeadLimit) (http.RoundTripper, error) {
	config, err := s.transportConfig(spec)
	if err != nil {
		return nil, err
	}
	config.DialHolder = &transport.DialHolder{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := s.Services.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return head.Of(conn), nil
	}}
	config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } // the library does not keep it then
	return transport.New(config)
}

func (s *Server) transportConfig(spec *apiregistrationv1.APIServiceSpec) (*transport.Config, error) {
	cert, key, err := s.Certificate()
	return &transport.Config{
		TLS: transport.TLSConfig{
			Insecure: spec.InsecureSkipTLSVerify, ServerName: spec.Service.Name + "." + spec.Service.Namespace + ".svc",
			CertData: cert, KeyData: key, CAData: spec.CABundle,
		},
		DialHolder: s.dial,
	}, err
}

// locate returns where a server has a path.
func (s *Server) locate(spec *apiregistrationv1.APIServiceSpec, path string) (*url.URL, error) {
	at, err := s.Services.ResolveEndpoint(spec.Service.Namespace, spec.Service.Name, *spec.Service.Port) // defaulted
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: "https", Host: at.Host, Path: path}, nil
}

// responder tells what has kept a request from being proxied.
type responder struct{ w http.ResponseWriter }

// Object implements proxy.ErrorResponder's other half, for connections.
func (r responder) Object(status int, obj runtime.Object) {
	responsewriters.WriteRawJSON(status, obj, r.w)
}

// Error implements proxy.ErrorResponder.
func (r responder) Error(_ http.ResponseWriter, _ *http.Request, err error) {
	http.Error(r.w, err.Error(), http.StatusServiceUnavailable)
}
