package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)}
}

func aService(name, ip string, kind corev1.ServiceType) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{
		Type: kind, ClusterIP: ip, ExternalName: map[bool]string{true: "example.com"}[kind == corev1.ServiceTypeExternalName],
		Ports: []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}},
	}}
}

// endpoints are those of a Service: "pod" is one of this name, "!pod" one that is not ready,
// and what has a dot is an address of the machine.
func endpoints(service string, port int32, list ...string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta(service), AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: &port}},
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	for _, e := range list {
		pod, unready := strings.CutPrefix(e, "!")
		endpoint := discoveryv1.Endpoint{Addresses: []string{"10.244.0.9"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(!unready)}}
		if strings.Contains(e, ".") {
			endpoint.Addresses = []string{e}
		} else {
			endpoint.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod, UID: types.UID("uid-" + pod)}
		}
		slice.Endpoints = append(slice.Endpoints, endpoint)
	}
	return slice
}

// setup returns Services of a store with objects; pods tell who they are, and by which port.
func setup(t *testing.T, objects map[change.Resource][]change.Object) *Services {
	t.Helper()
	kinds := kind.Builtin()
	st, err := store.Open(store.Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	var set change.Set
	for resource, list := range objects {
		for _, obj := range list {
			set.Create(resource.Key(obj.GetNamespace(), obj.GetName()), obj)
		}
	}
	if _, err := st.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	return New(Options{
		View: st.View,
		Pod: func(_ context.Context, pod *corev1.Pod, port uint16) (net.Conn, error) {
			switch pod.Name {
			case "closed":
				return nil, errors.New("told by another process: connection refused")
			case "far":
				return nil, errors.New(`node "b" is not connected`)
			}
			here, there := net.Pipe()
			go func() {
				fmt.Fprintf(there, "%s:%d", pod.Name, port)
				there.Close()
			}()
			return here, nil
		},
		API: func() *rest.Config { return &rest.Config{Host: "https://127.0.0.1:6443"} },
	})
}

func pods(names ...string) (list []change.Object) {
	for _, name := range names {
		list = append(list, &corev1.Pod{ObjectMeta: meta(name)})
	}
	return list
}

func TestResolve(t *testing.T) {
	t.Parallel()
	s := setup(t, map[change.Resource][]change.Object{kind.Services: {
		aService("web", "10.96.0.10", corev1.ServiceTypeClusterIP), aService("node", "10.96.0.11", corev1.ServiceTypeNodePort),
		aService("none", "None", corev1.ServiceTypeClusterIP), aService("other", "", corev1.ServiceTypeExternalName),
		aService("kubernetes", "10.96.0.1", corev1.ServiceTypeClusterIP),
	}})
	for _, test := range []struct {
		name string
		port int32
		want string
	}{
		{"web", 443, "https://10.96.0.10:443"},
		{"web", 444, `no service port 444 found for service "web"`},
		{"node", 443, "https://10.96.0.11:443"},
		{"none", 443, `cannot route to service with ClusterIP "None"`},
		{"other", 8443, "https://example.com:8443"},
		{"gone", 443, `service "gone" not found`},
		{"kubernetes", 443, "https://127.0.0.1:6443"},
	} {
		got, err := s.ResolveEndpoint("default", test.name, test.port)
		if err == nil && got.String() != test.want || err != nil && err.Error() != test.want {
			t.Errorf("%s:%d: %v, %v; want %s", test.name, test.port, got, err, test.want)
		}
	}
}

func TestDial(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "machine")
			conn.Close()
		}
	}()
	machine := int32(listener.Addr().(*net.TCPAddr).Port)
	for _, test := range []struct {
		name string
		list []*discoveryv1.EndpointSlice
		want string // one of what may be heard, or the error
	}{
		{"one", []*discoveryv1.EndpointSlice{endpoints("web", 8443, "a", "!b", "gone")}, "a:8443"},
		{"by lot", []*discoveryv1.EndpointSlice{endpoints("web", 1, "a"), endpoints("web", 2, "b")}, "a:1 b:2"},
		{"of another", []*discoveryv1.EndpointSlice{endpoints("else", 1, "a")}, "dial tcp 10.96.0.10:443: connect: connection refused"},
		{"none ready", []*discoveryv1.EndpointSlice{endpoints("web", 1, "!a", "gone")}, "dial tcp 10.96.0.10:443: connect: connection refused"},
		{"refused", []*discoveryv1.EndpointSlice{endpoints("web", 1, "closed")}, "dial tcp 10.96.0.10:443: connect: connection refused"},
		{"no node", []*discoveryv1.EndpointSlice{endpoints("web", 1, "far")}, `dial tcp 10.96.0.10:443: node "b" is not connected`},
		{"no pod", []*discoveryv1.EndpointSlice{endpoints("web", machine, "127.0.0.1")}, "machine"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			objects := map[change.Resource][]change.Object{kind.Pods: pods("a", "b", "closed", "far"), kind.Services: {aService("web", "10.96.0.10", corev1.ServiceTypeClusterIP)}}
			for i, slice := range test.list {
				slice.Name = fmt.Sprint(slice.Name, i)
				objects[kind.EndpointSlices] = append(objects[kind.EndpointSlices], slice)
			}
			s := setup(t, objects)
			heard := map[string]bool{}
			for range 64 { // each of two is missed once in 10^19
				conn, err := s.Dial(t.Context(), "tcp", "10.96.0.10:443")
				if err != nil {
					heard[err.Error()] = true
					continue
				}
				text, _ := io.ReadAll(conn)
				conn.Close()
				heard[string(text)] = true
			}
			want := strings.Fields(test.want)
			if strings.HasPrefix(test.want, "dial") {
				want = []string{test.want}
			}
			for _, text := range want {
				if !heard[text] || len(heard) != len(want) {
					t.Errorf("heard %v, want %q", heard, want)
				}
			}
		})
	}
}

// told is a webhook that answers so.
type told struct {
	code int
	body io.Reader
	to   string
}

func (a told) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.code, Header: http.Header{"Location": {a.to}}, Body: io.NopCloser(a.body)}, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestWebhooksAreStrangers: what a webhook answers is not all taken, and it sends nobody elsewhere:
// not with the credentials that the API has for itself, nor without any.
func TestWebhooksAreStrangers(t *testing.T) {
	t.Parallel()
	s := New(Options{
		API: func() *rest.Config { return &rest.Config{Host: "https://127.0.0.1:6443", BearerToken: "secret"} },
		Bounds: func(text []byte) error {
			if bytes.Count(text, []byte("[")) > 1 {
				return errors.New("too many lists")
			}
			return nil
		},
	})
	delegate := func() (*rest.Config, error) { return &rest.Config{}, nil }
	wrapped := s.Wrap(&webhook.AuthenticationInfoResolverDelegator{
		ClientConfigForFunc:        func(string) (*rest.Config, error) { return delegate() },
		ClientConfigForServiceFunc: func(string, string, int) (*rest.Config, error) { return delegate() },
	})
	long := strings.Repeat(" ", smallAnswer)
	for name, test := range map[string]struct {
		told
		want string
	}{
		"short":       {told{200, strings.NewReader("[[]]"), ""}, "[[]]"},
		"long":        {told{200, strings.NewReader("[]" + long), ""}, "[]" + long},
		"with much":   {told{200, strings.NewReader("[[]]" + long), ""}, "the answer has too much in it: too many lists"},
		"endless":     {told{200, zeros{}, ""}, "the answer is longer than 6291456 bytes"},
		"an error":    {told{500, strings.NewReader("no"), ""}, "no"},
		"goes on":     {told{302, strings.NewReader(""), "http://169.254.169.254/latest"}, `it redirects to "http://169.254.169.254/latest", and is not followed`},
		"sent again":  {told{307, strings.NewReader(""), "http://127.0.0.1:1/"}, `it redirects to "http://127.0.0.1:1/", and is not followed`},
		"for good":    {told{308, zeros{}, "/elsewhere"}, `it redirects to "/elsewhere", and is not followed`},
		"not changed": {told{304, strings.NewReader("x"), ""}, "x"},
	} {
		for who, config := range map[string]func() (*rest.Config, error){
			"by a URL":     func() (*rest.Config, error) { return wrapped.ClientConfigFor("example.com:443") },
			"of a Service": func() (*rest.Config, error) { return wrapped.ClientConfigForService("web", "default", 443) },
			"of the API":   func() (*rest.Config, error) { return wrapped.ClientConfigForService("kubernetes", "default", 443) },
		} {
			config, err := config()
			if err != nil {
				t.Fatal(err)
			}
			if seeker, ok := test.body.(io.Seeker); ok {
				_, _ = seeker.Seek(0, io.SeekStart)
			}
			got := ""
			answer, err := config.WrapTransport(test.told).RoundTrip(nil)
			if err != nil {
				got = err.Error()
			} else if text, err := io.ReadAll(answer.Body); err != nil || answer.ContentLength != int64(len(text)) {
				t.Errorf("%s %s: %d bytes of %d, %v", name, who, len(text), answer.ContentLength, err)
			} else {
				got = string(text)
			}
			if got != test.want {
				t.Errorf("%s %s: %.200q, want %.200q", name, who, got, test.want)
			}
		}
	}
}
