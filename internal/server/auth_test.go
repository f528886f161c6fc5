package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// asUser returns a client's configuration with a certificate for name, signed
// by the server's authority or, if not, by itself.
func (f *fixture) asUser(t *testing.T, name string, signed bool) *rest.Config {
	t.Helper()
	template := adminTemplate()
	template.Subject = pkix.Name{CommonName: name}
	ca := f.certs.ca
	if !signed {
		other, err := makePair(nil, caTemplate("sampan-ca"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ca = other
	}
	pair, err := makePair(ca, template, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(f.config)
	config.CertData, config.KeyData = pair.certPEM, pair.keyPEM
	return config
}

func TestAccess(t *testing.T) {
	t.Parallel()
	f := setup(t)
	nobody := rest.CopyConfig(f.config)
	nobody.CertData, nobody.KeyData = nil, nil
	user, stranger := f.asUser(t, "jane", true), f.asUser(t, "kubernetes-admin", false)
	token := rest.CopyConfig(nobody)
	token.BearerToken = "guess"
	for _, test := range []struct {
		probe
		config *rest.Config
	}{
		{probe{name: "anybody is healthy", path: "/healthz", code: 200, has: []string{"ok"}}, nobody},
		{probe{name: "and live", path: "/livez", code: 200}, nobody},
		{probe{name: "and ready", path: "/readyz", code: 200}, nobody},
		{probe{name: "and sees the version", path: "/version", code: 200, has: []string{"gitVersion"}}, nobody},
		{probe{name: "but nothing else", path: pods, code: 401, message: "Unauthorized", reason: "Unauthorized"}, nobody},
		{probe{name: "no discovery", path: "/api", code: 401}, nobody},
		{probe{name: "no metrics", path: "/metrics", code: 401}, nobody},
		{probe{name: "a guessed token", path: pods, code: 401}, token},
		{probe{name: "another authority", path: pods, code: 401}, stranger},
		{probe{name: "a user without rights", path: pods, code: 403, reason: "Forbidden",
			message: `pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"`}, user},
		{probe{name: "who may not write", method: "POST", path: jobs, body: jobBody, code: 403,
			message: `jobs.batch is forbidden: User "jane" cannot create resource "jobs" in API group "batch" in the namespace "default"`}, user},
		{probe{name: "nor look around", path: "/metrics", code: 403, message: `forbidden: User "jane" cannot get path "/metrics"`}, user},
		{probe{name: "nor look into the process", path: "/debug/pprof/heap", code: 403}, user},
		{probe{name: "which the administrator may", path: "/debug/pprof/goroutine?debug=1", code: 200, has: []string{"goroutine profile"}}, f.config},
		{probe{name: "nor be another", path: pods, header: map[string]string{"Impersonate-User": "bob"}, code: 403}, user},
		{probe{name: "the administrator may", path: pods, header: map[string]string{"Impersonate-User": "bob"}, code: 403,
			message: `pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default"`}, f.config},
		{probe{name: "the server itself", path: pods, code: 200}, f.LoopbackConfig()},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := f.httpAs(t, test.config, test.method, test.path, test.body, test.header)
			test.check(t, resp, body)
		})
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	now := time.Now()
	load := func(host string, now time.Time) *certs {
		t.Helper()
		c, err := loadCerts(dir, host, now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	serial := func(p *keyPair) string { return p.cert.SerialNumber.String() }
	first := load("127.0.0.1", now)

	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", st.Mode(), err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 6 {
		t.Errorf("files: %v", files)
	}
	for _, file := range files {
		if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, st.Mode(), err)
		}
	}
	if again := load("127.0.0.1", now); serial(again.ca) != serial(first.ca) || serial(again.serving) != serial(first.serving) || serial(again.admin) != serial(first.admin) {
		t.Error("certificates were made again")
	}
	moved := load("10.0.0.1", now)
	if serial(moved.ca) != serial(first.ca) || serial(moved.admin) != serial(first.admin) || moved.serving.cert.VerifyHostname("10.0.0.1") != nil {
		t.Error("the serving certificate is not for the new address")
	}
	old := load("10.0.0.1", now.Add(leafLifetime-30*24*time.Hour))
	if serial(old.ca) != serial(first.ca) || serial(old.serving) == serial(moved.serving) || serial(old.admin) == serial(first.admin) {
		t.Error("certificates near expiry were not renewed")
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := load("10.0.0.1", now)
	if serial(fresh.ca) == serial(first.ca) || fresh.admin.cert.CheckSignatureFrom(fresh.ca.cert) != nil || fresh.serving.cert.CheckSignatureFrom(fresh.ca.cert) != nil {
		t.Error("a damaged authority was kept")
	}
}

// An administrator's certificate that has ended is not taken from the cache.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	f := setup(t)
	template := adminTemplate()
	pair := endingCertificate(t, f.certs.ca, template, time.Now().Add(2*time.Second))
	config := rest.CopyConfig(f.config)
	config.CertData, config.KeyData = pair.certPEM, pair.keyPEM
	client := kubernetes.NewForConfigOrDie(config)
	if _, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(pair.cert.NotAfter) + 100*time.Millisecond)
	if _, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("an expired certificate was accepted")
	}
}

func endingCertificate(t *testing.T, ca *keyPair, template *x509.Certificate, end time.Time) *keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), end
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &keyPair{cert: cert, key: key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})}
}
