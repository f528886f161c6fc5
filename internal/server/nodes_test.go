package server

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// switches is a machine with one node.
type switches struct{ state string }

func (s *switches) Nodes() []MachineNode { return []MachineNode{{Name: "n", State: s.state}} }

func (s *switches) Switch(_ context.Context, node, what string) error {
	switch {
	case node != "n":
		return ErrNoNode
	case what == "kill":
		return errors.New("it is not running")
	case what != "stop":
		return ErrNoSwitch
	}
	s.state = "Stopped"
	return nil
}

func TestMachineNodes(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.Machine = &switches{state: "Running"} })
	nobody := rest.CopyConfig(f.config)
	nobody.CertData, nobody.KeyData = nil, nil
	someone := f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "someone"} })
	for _, tc := range []struct {
		config       *rest.Config
		method, path string
		code         int
		want         string
	}{
		{nobody, "GET", "", 401, ""},
		{nobody, "POST", "/n/stop", 401, ""},
		{someone, "GET", "", 403, ""},
		{someone, "POST", "/n/stop", 403, ""},
		{f.config, "GET", "", 200, `"state":"Running"`},
		{f.config, "GET", "/", 200, `"state":"Running"`},
		{f.config, "GET", "/n", 404, ""},
		{f.config, "POST", "", 405, "want GET"},
		{f.config, "GET", "/n/stop", 405, "want POST"},
		{f.config, "POST", "/m/stop", 404, `stop node "m": this engine runs no node of that name`},
		{f.config, "POST", "/n/explode", 400, "want start, stop or kill"},
		{f.config, "POST", "/n/kill", 409, "it is not running"},
		{f.config, "POST", "/n/stop", 200, `"state":"Stopped"`},
	} {
		client, err := rest.HTTPClientFor(tc.config)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), tc.method, f.config.Host+NodesPath+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.code || !strings.Contains(string(body), tc.want) {
			t.Errorf("%s %q: %d %s", tc.method, tc.path, resp.StatusCode, body)
		}
	}
}
