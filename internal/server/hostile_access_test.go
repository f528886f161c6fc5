package server

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// certificate returns the administrator's configuration with another
// certificate, made from his by change and signed by ca.
func (f *fixture) certificate(t *testing.T, ca *keyPair, lasts time.Duration, change func(*x509.Certificate)) *rest.Config {
	t.Helper()
	template := adminTemplate()
	change(template)
	pair := endingCertificate(t, ca, template, time.Now().Add(lasts))
	config := rest.CopyConfig(f.config)
	config.CertData, config.KeyData = pair.certPEM, pair.keyPEM
	return config
}

// Certificates that look right are not enough.
func TestForgedCertificates(t *testing.T) {
	t.Parallel()
	f := setup(t)
	same := func(*x509.Certificate) {}
	namesake, err := makePair(nil, caTemplate("sampan-ca"), time.Now()) // another authority of the same name
	if err != nil {
		t.Fatal(err)
	}
	of := func(p *keyPair) *rest.Config {
		config := rest.CopyConfig(f.config)
		config.CertData, config.KeyData = p.certPEM, p.keyPEM
		return config
	}
	for name, test := range map[string]struct {
		config *rest.Config
		code   int
	}{
		"the real one":               {f.certificate(t, f.certs.ca, time.Hour, same), 200},
		"of another authority":       {f.certificate(t, namesake, time.Hour, same), 401},
		"that has ended":             {f.certificate(t, f.certs.ca, -time.Minute, same), 401},
		"for servers":                {f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), 401},
		"signed by a client's":       {f.certificate(t, f.certs.admin, time.Hour, same), 401},
		"the server's own":           {of(f.certs.serving), 401},
		"that of another authority":  {of(namesake), 401},
		"of nobody":                  {f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.Subject = pkix.Name{} }), 401},
		"of the group, in the name":  {f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "system:masters"} }), 403},
		"of the group, nearly":       {f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.Subject.Organization = []string{"system:masters "} }), 403},
		"of the group, in capitals":  {f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.Subject.Organization = []string{"SYSTEM:MASTERS"} }), 403},
		"of the group, with another": {f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.Subject.Organization = []string{"x", "system:masters"} }), 200},
	} {
		resp, body := f.httpAs(t, test.config, "", cms, "", nil)
		if resp.StatusCode != test.code {
			t.Errorf("%s: %d %.200s", name, resp.StatusCode, body)
		}
	}
}

// Nothing but the public paths answers who has no credentials: no path, no
// method, no header that claims something, no token.
func TestNothingWithoutCredentials(t *testing.T) {
	t.Parallel()
	f := setup(t)
	nobody := rest.CopyConfig(f.config)
	nobody.CertData, nobody.KeyData = nil, nil
	_, lists, err := f.client.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{"/", "/api", "/apis", "/metrics", "/openapi/v2", "/openapi/v3", "/logs", "/debug/pprof/", "/healthz/etcd", "/livez/ping", "/version/", "//version", "/healthz/../api"}
	for _, list := range lists {
		root := "/apis/" + list.GroupVersion
		if list.GroupVersion == "v1" {
			root = "/api/v1"
		}
		paths = append(paths, root)
		for _, r := range list.APIResources {
			name, sub, _ := strings.Cut(r.Name, "/")
			path := root + "/" + name
			if r.Namespaced {
				path = root + "/namespaces/default/" + name
			}
			if sub != "" {
				path += "/x/" + sub
			}
			paths = append(paths, path, path+"?watch=1", path+"/x")
		}
	}
	claims := map[string]string{
		"X-Remote-User": "kubernetes-admin", "X-Remote-Group": "system:masters", "Impersonate-User": "kubernetes-admin", "Impersonate-Group": "system:masters",
		"Authorization": "Bearer " + strings.Repeat("0", len(f.token)), "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Client-Cert": "Subject=\"O=system:masters\"",
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
			resp, body := f.httpAs(t, nobody, method, path, "", claims)
			switch resp.StatusCode {
			case http.StatusUnauthorized:
			case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusNotFound: // a path to be cleaned, or none
				if strings.Contains(path, "//") || strings.Contains(path, "..") {
					continue
				}
				fallthrough
			default:
				t.Errorf("%s %s: %d %.200s", method, path, resp.StatusCode, body)
			}
		}
	}
	for _, token := range []string{"", " ", "Bearer", "Bearer ", "bearer x", "Basic YWRtaW46YWRtaW4=", "Bearer " + f.token + "x", "Bearer " + f.token[1:], "Bearer " + strings.ToUpper(f.token) + " ", "Negotiate x"} {
		resp, body := f.httpAs(t, nobody, "", cms, "", map[string]string{"Authorization": token})
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("Authorization: %q: %d %.200s", token, resp.StatusCode, body)
		}
	}
	if resp, body := f.httpAs(t, nobody, "", cms, "", map[string]string{"Authorization": "Bearer " + f.token}); resp.StatusCode != 200 {
		t.Errorf("the token itself: %d %s: the test shows nothing", resp.StatusCode, body)
	}
}

// The API is on loopback unless it is told otherwise.
func TestListensOnLoopback(t *testing.T) {
	t.Parallel()
	host, _, err := net.SplitHostPort(DefaultListen)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("%s, %v", DefaultListen, err)
	}
}

// Names that are more than a name anywhere else are none.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, name := range []string{".", "..", "a/b", "a%2fb", "a\x00b", "a\nb", "../../etc/passwd", "A", "-a", "a-", "a..b", "\u202ea", "a b", "'; drop", strings.Repeat("a", 254)} {
		quoted := strings.NewReplacer("\x00", `\u0000`, "\n", `\n`).Replace(name)
		resp, body := f.http(t, "POST", cms, cmBody(quoted, "1"), nil)
		if resp.StatusCode != 422 {
			t.Errorf("%q: %d %.200s", name, resp.StatusCode, body)
		}
		resp, body = f.http(t, "POST", pods, strings.Replace(podBody, `"main"`, `"`+quoted+`"`, 1), nil)
		if resp.StatusCode != 422 {
			t.Errorf("container %q: %d %.200s", name, resp.StatusCode, body)
		}
	}
}
