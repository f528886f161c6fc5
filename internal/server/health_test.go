package server

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/rest"
)

// ailing is a check that fails when it is told to.
type ailing struct {
	name string
	atomic.Bool
}

func (a *ailing) Name() string { return a.name }

func (a *ailing) Check(*http.Request) error {
	if a.Load() {
		return errors.New("/secret/place is full")
	}
	return nil
}

// TestHealth: /livez and /readyz in Kubernetes' format; what fails one need not fail
// the other; why is for those who may know.
func TestHealth(t *testing.T) {
	t.Parallel()
	live, ready := &ailing{name: "store"}, &ailing{name: "disk"}
	f := setup(t, func(o *Options) {
		o.Live, o.Ready = []healthz.HealthChecker{live}, []healthz.HealthChecker{ready}
	})
	nobody := rest.AnonymousClientConfig(f.config)
	want := func(config *rest.Config, path string, code int, has ...string) {
		t.Helper()
		resp, body := f.httpAs(t, config, "", path, "", nil)
		if resp.StatusCode != code {
			t.Errorf("%s: %d\n%s", path, resp.StatusCode, body)
		}
		for _, part := range has {
			if !strings.Contains(string(body), part) {
				t.Errorf("%s: no %q in\n%s", path, part, body)
			}
		}
		if strings.Contains(string(body), "/secret/place") && config == nobody {
			t.Errorf("%s: anybody is told\n%s", path, body)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		want(nobody, path, 200, "ok")
		want(nobody, path+"?verbose", 200, "[+]ping ok\n", "[+]log ok\n", "[+]store ok\n", path[1:]+" check passed\n")
		want(f.config, path+"/store", 200, "ok")
		want(nobody, path+"/store", 401)
	}
	want(nobody, "/readyz?verbose", 200, "[+]disk ok\n", "[+]shutdown ok\n")
	want(f.config, "/livez/disk", 404)

	ready.Store(true)
	want(nobody, "/livez", 200, "ok")
	want(nobody, "/healthz", 200, "ok")
	want(nobody, "/readyz", 500, "[+]store ok\n", "[-]disk failed: reason withheld\n", "readyz check failed")
	want(nobody, "/readyz?exclude=disk", 200, "ok")
	want(nobody, "/readyz?verbose&exclude=disk", 200, "[+]disk excluded: ok\n")
	want(f.config, "/readyz/disk", 500, "internal server error: /secret/place is full")
	want(nobody, "/readyz/disk", 401)

	live.Store(true)
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		want(nobody, path, 500, "[-]store failed: reason withheld\n", path[1:]+" check failed")
	}
	want(nobody, "/livez?exclude=store", 200, "ok")
	want(f.config, "/livez/store", 500, "internal server error: /secret/place is full")
}
