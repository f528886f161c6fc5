package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
)

func port(t *testing.T, addr string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(p)
	return n
}

func server(t *testing.T, tls bool) int {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("fine")) })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "a=b" || r.Header.Get("X-One") != "1" || r.Host != "example.test" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/there", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	var s *httptest.Server
	if tls {
		s = httptest.NewTLSServer(mux)
	} else {
		s = httptest.NewServer(mux)
	}
	t.Cleanup(s.Close)
	u, _ := url.Parse(s.URL)
	return port(t, u.Host)
}

func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return port(t, l.Addr().String())
}

func TestHandlers(t *testing.T) {
	t.Parallel()
	plain, secure, closed := server(t, false), server(t, true), closedPort(t)
	target := Target{IP: "127.0.0.1", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(plain)}}}
	get := func(path string, p int) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(p)}}}
	}
	tcp := func(p int) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(p)}}}
	}
	named := get("/ok", 0)
	named.HTTPGet.Port = intstr.FromString("web")
	unnamed := get("/ok", 0)
	unnamed.HTTPGet.Port = intstr.FromString("no")
	tls := get("/ok", secure)
	tls.HTTPGet.Scheme = corev1.URISchemeHTTPS
	query := get("/query?a=b", plain)
	query.HTTPGet.HTTPHeaders = []corev1.HTTPHeader{{Name: "X-One", Value: "1"}, {Name: "host", Value: "example.test"}}
	for name, test := range map[string]struct {
		probe *corev1.Probe
		want  Result
		text  string
	}{
		"http":            {get("/ok", plain), Success, "fine"},
		"http fails":      {get("/bad", plain), Failure, "HTTP probe failed with statuscode: 503"},
		"named port":      {named, Success, "fine"},
		"no such port":    {unnamed, Unknown, "invalid port number: no"},
		"https":           {tls, Success, "fine"},
		"headers":         {query, Success, ""},
		"redirect":        {get("/there", plain), Failure, "HTTP probe failed with statuscode: 503"},
		"redirect away":   {get("/away", plain), Success, ""},
		"nobody there":    {get("/ok", closed), Failure, "connect: connection refused"},
		"tcp":             {tcp(plain), Success, ""},
		"tcp fails":       {tcp(closed), Failure, "connect: connection refused"},
		"nothing to do":   {&corev1.Probe{}, Unknown, "missing probe handler"},
		"port out of use": {tcp(70000), Unknown, "invalid port number: 70000"},
	} {
		got, text := Once(context.Background(), test.probe, target)
		if got != test.want || !strings.Contains(text, test.text) {
			t.Errorf("%s: got %v %q, want %v %q", name, got, text, test.want, test.text)
		}
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	h.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	bare := grpc.NewServer()
	l2, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go bare.Serve(l2)
	t.Cleanup(bare.Stop)
	for _, test := range []struct {
		port    int
		service string
		want    Result
		text    string
	}{
		{port(t, l.Addr().String()), "", Success, "service healthy"},
		{port(t, l.Addr().String()), "bad", Failure, `service unhealthy (responded with "NOT_SERVING")`},
		{port(t, l2.Addr().String()), "", Failure, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"},
		{closedPort(t), "", Failure, "connection refused"},
	} {
		p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(test.port), Service: ptr.To(test.service)}}}
		if got, text := Once(context.Background(), p, Target{IP: "127.0.0.1"}); got != test.want || !strings.Contains(text, test.text) {
			t.Errorf("%+v: got %v %q", test, got, text)
		}
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	plain, closed := server(t, false), closedPort(t)
	get := func(path string, p int) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(p)}}
	}
	exec := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"a", "b"}}}
	target := func(code int, err error) Target {
		return Target{IP: "127.0.0.1", Exec: func(context.Context, []string, time.Duration) (runner.ExecResult, error) {
			return runner.ExecResult{ExitCode: code, Output: []byte("out")}, err
		}}
	}
	for name, test := range map[string]struct {
		hook   *corev1.LifecycleHandler
		target Target
		err    string
	}{
		"exec":              {hook: exec, target: target(0, nil)},
		"exec fails":        {hook: exec, target: target(3, nil), err: "command 'a b' exited with 3: out"},
		"exec cannot start": {hook: exec, target: target(0, errors.New("no")), err: "no"},
		"http":              {hook: get("/ok", plain), target: target(0, nil)},
		"any answer":        {hook: get("/bad", plain), target: target(0, nil)},
		"http fails":        {hook: get("/ok", closed), target: target(0, nil), err: "connection refused"},
		"nothing":           {hook: &corev1.LifecycleHandler{}, err: "invalid handler"},
	} {
		err := Hook(context.Background(), test.hook, test.target)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %v, want %q", name, err, test.err)
		}
	}
}

// TestRun lets a probe run over scripted results, one a second.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind             Kind
		success, failure int32
		results          string // s: success, f: failure, t: time-out, e: cannot be made
		want             string // the verdicts, with the second of each
	}{
		{Readiness, 1, 3, "ffssffsfffs", "2:true 9:false 10:true"},
		{Readiness, 2, 1, "sfssfss", "3:true 4:false 6:true"},
		{Liveness, 1, 3, "sffsfffff", "6:false 7:false 8:false"},
		{Liveness, 1, 2, "sfeftt", "3:false 4:false 5:false"},
		{Startup, 1, 3, "ffs", "2:true"},
		{Startup, 1, 2, "fff", "1:false 2:false"},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(len(test.results))*time.Second-time.Millisecond)
			defer cancel()
			target := Target{Exec: func(context.Context, []string, time.Duration) (runner.ExecResult, error) {
				switch test.results[int(time.Since(begin)/time.Second)] {
				case 's':
					return runner.ExecResult{}, nil
				case 'f':
					return runner.ExecResult{ExitCode: 1}, nil
				case 't':
					return runner.ExecResult{TimedOut: true}, nil
				}
				return runner.ExecResult{}, errors.New("cannot")
			}}
			p := &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}},
				PeriodSeconds: 1, SuccessThreshold: test.success, FailureThreshold: test.failure,
			}
			var got []string
			events := 0
			Run(ctx, test.kind, p, begin, target, func(string, string) { events++ }, func(ok bool) {
				got = append(got, strconv.Itoa(int(time.Since(begin)/time.Second))+":"+strconv.FormatBool(ok))
			})
			if !slices.Equal(got, strings.Fields(test.want)) {
				t.Errorf("%s %q: got %q, want %q", test.kind, test.results, got, test.want)
			}
			if want := len(test.results) - strings.Count(test.results, "s"); events != want {
				t.Errorf("%s %q: %d events, want %d", test.kind, test.results, events, want)
			}
		})
	}
}

func TestInitialDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var at []int
		target := Target{Exec: func(context.Context, []string, time.Duration) (runner.ExecResult, error) {
			at = append(at, int(time.Since(begin)/time.Second))
			return runner.ExecResult{}, nil
		}}
		p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}, InitialDelaySeconds: 7, PeriodSeconds: 10}
		Run(ctx, Liveness, p, begin, target, nil, nil)
		if !slices.Equal(at, []int{7, 17, 27}) {
			t.Errorf("probed at %v", at)
		}
	})
}
