package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// street is a node on which every port of a pod is one of these listeners.
type street struct {
	PodStreams
	houses map[uint16]net.Listener
}

func (s *street) Dial(ctx context.Context, pod *corev1.Pod, port uint16) (net.Conn, error) {
	if s.houses[port] == nil {
		return nil, fmt.Errorf("nobody is at %d of %s", port, pod.Name)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.houses[port].Addr().String())
}

// answered is what the backend of these tests answers.
func answered(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/away":
		http.Redirect(w, r, "/home", http.StatusFound)
	case "/links":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		fmt.Fprint(w, `<a href="/next">n</a>`)
	case "/bomb": // 64 MiB of one tag
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, `<a href="`)
		io.CopyN(z, zeros{}, 64<<20)
		z.Close()
	case "/long":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<a href="/next">n</a>`)
		io.CopyN(w, zeros{}, maxPage)
	default:
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %q auth=%q for=%q", r.Method, r.URL, body, r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-Uri"))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("0"), len(p))), nil }

// raw answers each connection as it is told to.
func raw(t *testing.T, answer func(conn net.Conn, r *bufio.Reader)) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				if _, err := http.ReadRequest(r); err == nil {
					answer(conn, r)
				}
			}()
		}
	}()
	return l
}

func proxyFixture(t *testing.T) *fixture {
	plain, secure := httptest.NewServer(http.HandlerFunc(answered)), httptest.NewTLSServer(http.HandlerFunc(answered))
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	endless := func(conn net.Conn, _ *bufio.Reader) {
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: talk\r\n")
		for _, err := io.WriteString(conn, "X: y\r\n"); err == nil; {
			_, err = io.WriteString(conn, "X: "+strings.Repeat("y", 60000)+"\r\n")
		}
	}
	node := &street{houses: map[uint16]net.Listener{80: plain.Listener, 443: secure.Listener, 666: raw(t, endless), 7: raw(t, func(conn net.Conn, r *bufio.Reader) {
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n")
		io.Copy(conn, io.LimitReader(r, 3<<20)) // more than a header may have
	})}}
	f := setup(t, func(o *Options) { o.Node = only("n", node) })
	pod := func(name, ip string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Status: corev1.PodStatus{PodIP: ip, HostIP: "192.0.2.1"},
			Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}}}
	}
	f.namespace(t, "other")
	elsewhere := pod("p", "10.244.0.9")
	elsewhere.Namespace = "other"
	elsewhere.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	service := func(name string, endpoints ...discoveryv1.Endpoint) (*corev1.Service, *discoveryv1.EndpointSlice) {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 8080}, {Name: "safe", Port: 8443}}}},
			&discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: name}}, AddressType: "IPv4",
				Ports: []discoveryv1.EndpointPort{{Name: ptr.To("web"), Port: ptr.To[int32](80)}, {Name: ptr.To("safe"), Port: ptr.To[int32](443)}}, Endpoints: endpoints,
			}
	}
	at := func(ip, namespace, pod string, ready bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod}}
	}
	s, e := service("s", at("10.244.0.5", "default", "p", true), at("10.244.0.6", "default", "gone", true))
	none, noneE := service("none", at("10.244.0.5", "default", "p", false))
	lies, liesE := service("lies", at("169.254.169.254", "default", "p", true), at("10.244.0.9", "other", "p", true), discoveryv1.Endpoint{Addresses: []string{"10.244.0.5"}})
	f.put(t, pod("p", "10.244.0.5"), pod("loop", "127.0.0.1"), pod("link", "169.254.169.254"), pod("waits", ""), elsewhere, s, e, none, noneE, lies, liesE,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "away"}})
	return f
}

// TestProxy: requests go to pods and Services as they are, but for who makes them; whoever answers
// leads nobody astray.
func TestProxy(t *testing.T) {
	t.Parallel()
	f := proxyFixture(t)
	const services, nodes = "/api/v1/namespaces/default/services/", "/api/v1/nodes/"
	mine := map[string]string{"Authorization": "Bearer secret"}
	f.run(t, []probe{
		{name: "a pod", path: pods + "/p/proxy/a/b?q=1", code: 200, has: []string{`GET /a/b?q=1 "" auth="" for="/api/v1/namespaces/default/pods/p/proxy/a/b"`}},
		{name: "its port", method: "POST", path: pods + "/http:p:80/proxy/", body: "hello", code: 200, has: []string{`POST / "hello"`}},
		{name: "in the clear and not", path: pods + "/https:p:443/proxy/x", code: 200, has: []string{"GET /x"}},
		{name: "no slash", method: "POST", path: pods + "/p/proxy", body: "hello", code: 200, has: []string{`POST / "hello"`}},
		{name: "PUT", method: "PUT", path: pods + "/p/proxy/x", body: "hello", code: 200, has: []string{`PUT /x "hello"`}},
		{name: "DELETE", method: "DELETE", path: pods + "/p/proxy/x", code: 200, has: []string{`DELETE /x`}},
		{name: "PATCH", method: "PATCH", path: pods + "/p/proxy/x", code: 200, has: []string{`PATCH /x`}},
		{name: "OPTIONS", method: "OPTIONS", path: pods + "/p/proxy/x", code: 200, has: []string{`OPTIONS /x`}},
		{name: "nobody listens", path: pods + "/p:81/proxy/", code: 503, reason: "ServiceUnavailable", message: "error trying to reach service: nobody is at 81 of p"},
		{name: "no such port", path: pods + "/p:nonsense/proxy/", code: 400, message: `invalid pod request "p:nonsense"`},
		{name: "no such pod", path: pods + "/q/proxy/", code: 404, message: `pods "q" not found`},
		{name: "no such scheme", path: pods + "/ftp:p:21/proxy/", code: 400, message: `invalid pod request "ftp:p:21"`},
		{name: "a loopback", path: pods + "/loop/proxy/", code: 400, message: "address not allowed"},
		{name: "a link's address", path: pods + "/link/proxy/", code: 400, message: "address not allowed"},
		{name: "no address", path: pods + "/waits/proxy/", code: 400, message: "address not allowed"},
		{name: "a redirect", path: pods + "/p/proxy/away", code: 200, has: []string{`GET /home`}},
		{name: "links", path: pods + "/p/proxy/links", code: 200, has: []string{`/api/v1/namespaces/default/pods/p/proxy/next">n</a>`}},
		{name: "a long page", path: pods + "/p/proxy/long", code: 200, has: []string{`<a href="/next">n</a>0000`}},

		{name: "a Service", path: services + "s:web/proxy/x", code: 200, has: []string{"GET /x"}},
		{name: "its port", path: services + "http:s:8080/proxy/x", code: 200, has: []string{"GET /x"}},
		{name: "and the other", path: services + "https:s:safe/proxy/x", code: 200, has: []string{"GET /x"}},
		{name: "a port that it has not", path: services + "s:81/proxy/", code: 503, message: `no service port 81 found for service "s"`},
		{name: "no port", path: services + "s/proxy/", code: 503, message: `no endpoints available for service "s"`},
		{name: "no such Service, by number", path: services + "t:80/proxy/", code: 404, message: `services "t" not found`},
		{name: "no such Service, by name", path: services + "t:web/proxy/", code: 503, message: `no endpoints available for service "t"`},
		{name: "none is ready", path: services + "none:web/proxy/", code: 503, message: `no endpoints available for service "none"`},
		{name: "endpoints that lie", path: services + "lies:web/proxy/", code: 503, message: `no endpoints available for service "lies"`},
		{name: "a token is not passed on", path: pods + "/p/proxy/", header: mine, code: 200, has: []string{`auth=""`}},

		{name: "a node is well", path: nodes + "n/proxy/healthz", code: 200, has: []string{"ok"}},
		{name: "its pods", path: nodes + "n:10250/proxy/pods", code: 200, has: []string{`"kind":"PodList"`, `"name":"loop"`}},
		{name: "those that run", path: nodes + "n:10250/proxy/runningpods/", code: 200, has: []string{`"items":[{"metadata":{"name":"p","namespace":"other"`}},
		{name: "no more than that", path: nodes + "n/proxy/run/x", code: 404, has: []string{"404 page not found"}},
		{name: "a node that is away", path: nodes + "away/proxy/healthz", code: 503, message: `error trying to reach service: node "away" is not connected`},
		{name: "its loopback", path: nodes + "n:80/proxy/", code: 400, message: "address not allowed"},
		{name: "no such node", path: nodes + "x/proxy/", code: 404, message: `nodes "x" not found`},
	})
	resp, _ := f.http(t, "GET", pods+"/p/proxy/links", "", nil)
	if resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("the backend lets other origins in: %v", resp.Header)
	}
	resp, body := f.http(t, "GET", pods+"/p/proxy/bomb", "", map[string]string{"Accept-Encoding": "gzip"})
	if len(body) > 1<<20 || !strings.EqualFold(resp.Header.Get("Content-Type"), "text/html") || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("what unpacks to much is not as it came: %d bytes, %v", len(body), resp.Header)
	}
	resp, body = f.http(t, "GET", pods+"/p:666/proxy/", "", nil)
	(&probe{code: 503, has: []string{"error trying to reach service"}}).check(t, resp, body)
}

// TestProxyRights: each method needs its verb for the subresource.
func TestProxyRights(t *testing.T) {
	t.Parallel()
	f := proxyFixture(t)
	f.grant(t, "reader", rule("", "services", "get"), rule("", "pods", "get"))
	f.grant(t, "getter", rule("", "services/proxy", "get"))
	for user, may := range map[string]map[string]int{"reader": {"GET": 403, "POST": 403}, "getter": {"GET": 200, "POST": 403, "DELETE": 403, "PATCH": 403}} {
		for method, code := range may {
			resp, body := f.httpAs(t, f.asUser(t, user, true), method, "/api/v1/namespaces/default/services/s:web/proxy/x", "", nil)
			(&probe{code: code}).check(t, resp, body)
		}
	}
}

// TestProxyUpgrades: what becomes of a connection is between its ends, but its header has an end.
func TestProxyUpgrades(t *testing.T) {
	t.Parallel()
	f := proxyFixture(t)
	config := rest.CopyConfig(f.config)
	config.NextProtos = []string{"http/1.1"}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	upgrade := func(path string) *http.Response {
		req, _ := http.NewRequest("GET", config.Host+path, nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "talk")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	resp := upgrade(pods + "/p:7/proxy/")
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("answered with %s", resp.Status)
	}
	sent := bytes.Repeat([]byte("talk"), 3<<18)
	go conn.Write(sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what was sent did not come back: %v", err)
	}
	resp = upgrade(pods + "/p:666/proxy/")
	body, _ := io.ReadAll(resp.Body)
	(&probe{code: 500, has: []string{"the header of the answer is too large"}}).check(t, resp, body)
	resp = upgrade(pods + "/p:80/proxy/x")
	body, _ = io.ReadAll(resp.Body)
	(&probe{code: 500, has: []string{"invalid upgrade response: status code 200"}}).check(t, resp, body)
}
