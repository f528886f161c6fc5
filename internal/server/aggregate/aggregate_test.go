package aggregate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/backend"
	"github.com/sampan-batch/sampan/internal/store"
)

func TestNameOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/apis/metrics.k8s.io/v1beta1":               "v1beta1.metrics.k8s.io",
		"/apis/metrics.k8s.io/v1beta1/":              "v1beta1.metrics.k8s.io",
		"/apis/metrics.k8s.io/v1beta1/nodes/a":       "v1beta1.metrics.k8s.io",
		"/apis/metrics.k8s.io":                       "",
		"/apis/metrics.k8s.io/":                      "",
		"/apis//v1":                                  "",
		"/apis":                                      "",
		"/api/v1/namespaces/default/pods":            "v1.",
		"/api":                                       "v1.",
		"/apiserver":                                 "",
		"/openapi/v3/apis/metrics.k8s.io/v1beta1":    "",
		"/apis/../api/v1":                            "api...",
		"/apis/example.com/v1/../../metrics.k8s.io/": "v1.example.com",
	} {
		if got := nameOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// bench is a remote whose Service leads to a server of the test.
type bench struct {
	*remote
	store *store.Store
}

func setup(t *testing.T, serve http.HandlerFunc, objects ...change.Object) bench {
	t.Helper()
	kinds := kind.Builtin()
	st, err := store.Open(store.Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	var set change.Set
	for _, obj := range objects {
		resource := map[string]change.Resource{"*v1.Service": kind.Services, "*v1.EndpointSlice": kind.EndpointSlices, "*v1.Pod": kind.Pods}[fmt.Sprintf("%T", obj)]
		set.Create(resource.Key(obj.GetNamespace(), obj.GetName()), obj)
	}
	if _, err := st.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewTLSServer(serve)
	t.Cleanup(web.Close)
	services := backend.New(backend.Options{View: st.View, API: func() *rest.Config { return &rest.Config{} }, Pod: func(ctx context.Context, _ *corev1.Pod, _ uint16) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", web.Listener.Addr().String())
	}})
	s := &Server{
		Options: Options{Store: st, Services: services, Logger: slog.New(slog.DiscardHandler), Certificate: func() (cert, key []byte, err error) { return nil, nil, nil },
			Bounds: func(text []byte) error {
				if strings.Count(string(text), "{") > 1000 {
					return errors.New("more than 1000 fields")
				}
				return nil
			}},
		dial: &transport.DialHolder{Dial: services.Dial},
	}
	return bench{&remote{Server: s, name: "v1.example.com", spec: apiregistrationv1.APIServiceSpec{
		Group: "example.com", Version: "v1", InsecureSkipTLSVerify: true,
		Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "web", Port: ptr.To[int32](443)},
	}}, st}
}

func service(port int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.10", Ports: []corev1.ServicePort{{Name: "https", Port: port}},
	}}
}

func slice(port string, ready bool) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &port, Port: ptr.To[int32](8443)}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.244.0.9"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web"},
		}},
	}
}

func pod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
}

// What a server that is not there is told to be, in Kubernetes' words.
func TestCheck(t *testing.T) {
	t.Parallel()
	answers := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/apis/example.com/v1" || r.Header.Get("X-Remote-User") != "system:kube-aggregator" {
				status = http.StatusTeapot
			}
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(status)
		}
	}
	for _, test := range []struct {
		name, want string
		serve      http.HandlerFunc
		objects    []change.Object
	}{
		{"no service", `ServiceNotFound: service/web in "default" is not present`, answers(200), nil},
		{"no port", `ServicePortError: service/web in "default" is not listening on port 443`, answers(200), []change.Object{service(80)}},
		{"no slice", `EndpointsNotFound: cannot find endpointslices for service/web in "default"`, answers(200), []change.Object{service(443)}},
		{"not ready", `MissingEndpoints: endpointslices for service/web in "default" have no addresses with port name "https"`, answers(200), []change.Object{service(443), slice("https", false)}},
		{"another port", `MissingEndpoints: endpointslices for service/web in "default" have no addresses with port name "https"`, answers(200), []change.Object{service(443), slice("http", true)}},
		{"refused", `FailedDiscoveryCheck: failing or missing response from https://10.96.0.10:443/apis/example.com/v1: bad status from https://10.96.0.10:443/apis/example.com/v1: 403`,
			answers(403), []change.Object{service(443), slice("https", true), pod()}},
		{"redirected", `FailedDiscoveryCheck: failing or missing response from https://10.96.0.10:443/apis/example.com/v1: bad status from https://10.96.0.10:443/apis/example.com/v1: 302`,
			answers(302), []change.Object{service(443), slice("https", true), pod()}},
		{"there", "", answers(200), []change.Object{service(443), slice("https", true), pod()}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := setup(t, test.serve, test.objects...).check(t.Context())
			got := ""
			if why := new(absent); errors.As(err, &why) {
				got = why.reason + ": " + why.message
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// What is served is discovered, by aggregated discovery or by what there was before; what is
// said of it is bounded, and wrong answers are errors.
func TestResources(t *testing.T) {
	t.Parallel()
	const accepts = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	const list = `{"items":[{"metadata":{"name":"example.com"},"versions":[{"version":"v2","resources":[{"resource":"no"}]},{"version":"v1","resources":[{"resource":"boats","scope":"Cluster"}]}]}]}`
	const old = `{"groupVersion":"example.com/v1","resources":[{"name":"boats","singularName":"boat","namespaced":false,"kind":"Boat","verbs":["get"]}]}`
	for _, test := range []struct {
		name, contentType, apis, version string
		want                             string
	}{
		{"aggregated", accepts, list, old, "boats"},
		{"another type", "application/json", `{"kind":"APIGroupList"}`, old, "boats"},
		{"not in it", accepts, `{"items":[]}`, old, ""},
		{"no JSON", accepts, `{"items":`, "<html>", "error: invalid character '<'"},
		{"too much", accepts, `{"items":[` + strings.Repeat("{},", 1000) + "{}]}", strings.Repeat("{", 1001), "error: the answer from https://10.96.0.10:443/apis/example.com/v1 has too much in it: more than 1000 fields"},
		{"too large", accepts, strings.Repeat(" ", maxDocument+1), strings.Repeat(" ", maxDocument+1), "error: the answer from https://10.96.0.10:443/apis/example.com/v1 is larger than 16 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				body := test.version
				if r.URL.Path == "/apis" {
					body = test.apis
				}
				_, _ = io.WriteString(w, body)
			}, service(443), slice("https", true), pod())
			found, err := b.resources(t.Context())
			got := ""
			for _, r := range found {
				got += r.Resource
			}
			if err != nil {
				got = "error: " + err.Error()
			}
			if !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %.200s, want %s", got, test.want)
			}
		})
	}
}

// A server may make another protocol of a connection, and say by that what it likes; but not be about to
// do so without an end.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
	long := strings.Repeat("x", 8*backend.MaxHead)
	for _, test := range []struct{ name, answer, want string }{
		{"an end", switching + "\r\n" + long + "the end", "the end"},
		{"no end", switching + "X: " + long, "the header of the answer is too large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, test.answer)
			}, service(443), slice("https", true), pod())
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b.forward(w, r, &b.spec, &user.DefaultInfo{Name: "ann"})
			}))
			t.Cleanup(front.Close)
			conn, err := net.Dial("tcp", front.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprintf(conn, "GET /apis/example.com/v1/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			var got []byte
			for buf := make([]byte, 1<<16); err == nil && !strings.Contains(string(got[max(0, len(got)-100):]), test.want); {
				var n int
				n, err = conn.Read(buf)
				got = append(got, buf[:n]...)
			}
			if err != nil {
				t.Errorf("%d bytes that end with %q, and not %q: %v", len(got), got[max(0, len(got)-100):], test.want, err)
			}
		})
	}
}
