package image

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// farAway is a connection to a registry that looks as if that were elsewhere.
type farAway struct{ net.Conn }

func (farAway) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.9.8.7:5000"))
}

// TestWhereARegistryLeads: what answers on this machine only is not asked because a registry that is
// elsewhere says so, by a redirect or a realm; and what it would have said is not told.
func TestWhereARegistryLeads(t *testing.T) {
	t.Parallel()
	const secret = "the secret of this machine"
	var asked atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte(`{"key":"` + secret + `"}`))
	}))
	t.Cleanup(inside.Close)
	named := strings.Replace(inside.URL, "127.0.0.1", "localhost", 1)
	redirect := func(part, to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, part) {
				http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			}
		}
	}
	realm := func(at string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+at+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	// Addresses that are written as such the library refuses, too.
	const refused, known = "which is of this machine only", "private/link-local host"
	for name, tc := range map[string]struct {
		registry http.HandlerFunc
		far      string // what is said when the registry is elsewhere
		near     bool   // it is asked when the registry is here, too
	}{
		"the first question":  {redirect("/v2/", inside.URL+"/json"), refused, true},
		"a manifest":          {redirect("/manifests/", inside.URL+"/json"), known, true},
		"a manifest, by name": {redirect("/manifests/", named+"/json"), refused, true},
		"a refusal":           {redirect("/manifests/", inside.URL+"/teapot"), known, true},
		"a token":             {realm(named + "/json"), refused, true},
		"no token":            {realm(named + "/teapot"), refused, true},
		"a token, by number":  {realm(inside.URL + "/json"), "private or link-local address", false},
		"a cloud's secrets":   {redirect("/manifests/", "http://169.254.169.254/latest/meta-data/"), known, false},
		"every address":       {redirect("/manifests/", strings.Replace(inside.URL, "127.0.0.1", "0.0.0.0", 1)), known, false},
		"version 6":           {redirect("/manifests/", "http://[::ffff:127.0.0.1]:9/"), known, false},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(tc.registry)
			t.Cleanup(srv.Close)
			address := strings.TrimPrefix(srv.URL, "http://")
			s, err := Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			s.roads.anywhere = s.roads.anywhere.Clone()
			s.roads.anywhere.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
				var d net.Dialer
				if to != "10.9.8.7:5000" {
					return d.DialContext(ctx, network, to)
				}
				c, err := d.DialContext(ctx, network, address)
				return farAway{c}, err
			}
			asked.Store(0)
			_, err = s.Pull(t.Context(), "10.9.8.7:5000/evil:v1", PullOptions{})
			if err == nil || !strings.Contains(err.Error(), tc.far) || asked.Load() > 0 {
				t.Errorf("from elsewhere: %d were asked: %v\nwant %s", asked.Load(), err, tc.far)
			}
			_, err = s.Pull(t.Context(), address+"/evil:v1", PullOptions{})
			if err == nil || strings.Contains(err.Error(), secret) || tc.near != (asked.Load() > 0) {
				t.Errorf("from here: %d were asked: %v", asked.Load(), err)
			}
		})
	}
}

// TestWhatARegistrySays: people are told what it says to them, and not how long it can talk.
func TestWhatARegistrySays(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body, want string
	}{
		"nothing":       {"", "the registry answered 418 I'm a teapot"},
		"a page":        {"<html>hello</html>", "the registry answered 418 I'm a teapot"},
		"other JSON":    {`{"password":"x"}`, "the registry answered 418 I'm a teapot"},
		"an error":      {`{"errors":[{"code":"DENIED","message":"go away","detail":{"password":"x"}}]}`, "the registry answered 418 I'm a teapot: DENIED (go away)"},
		"two":           {`{"errors":[{"code":"A"},{"code":"B","message":"b"}]}`, "the registry answered 418 I'm a teapot: A; B (b)"},
		"much":          {`{"errors":[{"code":"A","message":"` + strings.Repeat("ä", 20_000) + `"}]}`, "the registry answered 418 I'm a teapot: A (äää"},
		"many of these": {`{"errors":[{"code":"A"}` + strings.Repeat(`,{"code":"A"}`, 4000) + `]}`, "the registry answered 418 I'm a teapot: A; A; A"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.WriteHeader(http.StatusTeapot)
				_, _ = w.Write([]byte(tc.body))
			}
		}))
		s, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ref := strings.TrimPrefix(srv.URL, "http://") + "/app:v1"
		_, err = s.Pull(t.Context(), ref, PullOptions{})
		if want := `failed to pull image "` + ref + `": ` + tc.want; err == nil || err.Error() != want && !(len(tc.body) > 1000 && strings.HasPrefix(err.Error(), want) && len(err.Error()) < 1100) {
			t.Errorf("%s: %v\nwant %s", name, err, want)
		}
		srv.Close()
	}
}
