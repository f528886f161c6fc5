package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"strconv"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests"

// request is a request for a certificate, PEM, and its key.
func request(t testing.TB, subject pkix.Name) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func csrBody(name, signer, usages string, request []byte) string {
	return `{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":"` + name + `"},"spec":{"signerName":"` + signer +
		`","usages":[` + usages + `],"request":"` + base64.StdEncoding.EncodeToString(request) + `","username":"forged","groups":["system:masters"],"uid":"0"}}`
}

// A request says who makes it, whatever it says itself; who approves, and who signs, may do that in the
// name of the signer.
func TestCertificateSigningRequests(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const group = "certificates.k8s.io"
	write := func(sub string) []string { return []string{"certificatesigningrequests" + sub} }
	all := []string{"get", "create", "update", "patch"}
	requester := rule(group, "", "create")
	requester.Resources, requester.Verbs = append(append(write(""), write("/approval")...), write("/status")...), all
	f.grant(t, "requester", requester)
	f.grant(t, "approver", requester, rule(group, "signers", "approve", "kubernetes.io/*"))
	f.grant(t, "signer", requester, rule(group, "signers", "sign", "kubernetes.io/kube-apiserver-client"))

	_, pemJane := request(t, pkix.Name{CommonName: "jane", Organization: []string{"staff"}})
	_, pemMaster := request(t, pkix.Name{CommonName: "jane", Organization: []string{"staff", "system:masters"}})
	const client, usages = "kubernetes.io/kube-apiserver-client", `"client auth"`
	as := f.asUser(t, "requester", true)
	for _, p := range []probe{
		{name: "by its maker", code: 201, body: csrBody("a", client, usages, pemJane), has: []string{`"username":"requester","groups":["system:authenticated"]`, `"status":{}`}, not: []string{"forged", "system:masters"}},
		{name: "for masters", code: 403, body: csrBody("b", client, usages, pemMaster),
			message: `certificatesigningrequests.certificates.k8s.io "b" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed`},
		{name: "noise", code: 422, body: csrBody("b", client, usages, []byte("noise")), has: []string{"PEM block type must be CERTIFICATE REQUEST"}},
		{name: "no usages", code: 422, body: csrBody("b", client, "", pemJane), has: []string{`spec.usages: Required value`}},
		{name: "an unknown usage", code: 422, body: csrBody("b", client, `"world domination"`, pemJane), has: []string{`Unsupported value: \"world domination\"`}},
		{name: "no signer", code: 422, body: csrBody("b", "x", usages, pemJane), has: []string{"spec.signerName"}},
	} {
		resp, body := f.httpAs(t, as, "POST", requests, p.body, nil)
		t.Run(p.name, func(t *testing.T) { p.check(t, resp, body) })
	}
	approve := `{"status":{"conditions":[{"type":"Approved","status":"True","reason":"x","message":"y"}]}}`
	patch := map[string]string{"Content-Type": "application/merge-patch+json"}
	try := func(user, sub, body string, p probe) {
		t.Helper()
		resp, answer := f.httpAs(t, f.asUser(t, user, true), "PATCH", requests+"/a"+sub, body, patch)
		p.check(t, resp, answer)
	}
	try("requester", "/approval", approve, probe{code: 403,
		message: `certificatesigningrequests.certificates.k8s.io "a" is forbidden: user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"`})
	try("signer", "/approval", approve, probe{code: 403})
	try("requester", "", `{"spec":{"username":"eve"},`+approve[1:], probe{code: 200, has: []string{`"username":"requester"`}, not: []string{"Approved"}})
	try("approver", "/approval", approve, probe{code: 200, has: []string{`"type":"Approved"`, `"lastUpdateTime":"20`}})
	try("approver", "/approval", `{"status":{"conditions":[]}}`, probe{code: 422, has: []string{"updates may not remove a condition of type"}})
	issued := `{"status":{"certificate":"` + base64.StdEncoding.EncodeToString(f.certs.admin.certPEM) + `"}}`
	try("approver", "/status", issued, probe{code: 403,
		message: `certificatesigningrequests.certificates.k8s.io "a" is forbidden: user not permitted to sign requests with signerName "kubernetes.io/kube-apiserver-client"`})
	try("approver", "/status", `{"metadata":{"labels":{"a":"b"}}}`, probe{code: 200})
	try("signer", "/status", issued, probe{code: 200, has: []string{`"certificate":"`}})
	f.run(t, []probe{
		{name: "by its signer", path: requests + "?fieldSelector=spec.signerName%3Dkubernetes.io%2Fkube-apiserver-client", code: 200, has: []string{`"name":"a"`}},
		{name: "by another", path: requests + "?fieldSelector=spec.signerName%3Dexample.com%2Fown", code: 200, has: []string{`"items":[]`}},
		{name: "discovery", path: "/apis/certificates.k8s.io/v1", code: 200, has: []string{`{"name":"certificatesigningrequests/approval","singularName":"","namespaced":false,"kind":"CertificateSigningRequest","verbs":["get","patch","update"]}`}},
	})
}

// What is signed is signed by the authority that knows clients, for as long as it is asked for, and not
// beyond the authority itself.
func TestSignCertificate(t *testing.T) {
	t.Parallel()
	f := setup(t)
	now := time.Now().Truncate(time.Second).UTC()
	key, text := request(t, pkix.Name{CommonName: "jane", Organization: []string{"staff"}})
	block, _ := pem.Decode(text)
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
	sign := func(life time.Duration) *x509.Certificate {
		t.Helper()
		out, err := f.SignCertificate(now, parsed, usages, life)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(out)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for life, want := range map[time.Duration]time.Duration{10 * time.Minute: 10 * time.Minute, 24 * time.Hour: 24*time.Hour - 5*time.Minute} {
		if cert := sign(life); !cert.NotAfter.Equal(now.Add(want)) || !cert.NotBefore.Equal(now.Add(-5*time.Minute)) || cert.IsCA {
			t.Errorf("%s: from %v to %v", life, cert.NotBefore, cert.NotAfter)
		}
	}
	if cert := sign(10 * caLifetime); !cert.NotAfter.Equal(f.certs.ca.cert.NotAfter) {
		t.Errorf("outlives its authority: %v", cert.NotAfter)
	}
	if _, err := f.SignCertificate(now.Add(2*caLifetime), parsed, usages, time.Hour); err == nil || !strings.Contains(err.Error(), "the signer has expired") {
		t.Errorf("after the authority: %v", err)
	}
	config := rest.CopyConfig(f.config)
	config.CertData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(time.Hour).Raw})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config.KeyData = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	resp, body := f.httpAs(t, config, "GET", pods, "", nil)
	(&probe{code: 403, has: []string{`User \"jane\" cannot list resource \"pods\"`}}).check(t, resp, body)
}

// The token that a Secret keeps is its account's, as long as the Secret has it; its use is written down.
func TestSecretTokens(t *testing.T) {
	t.Parallel()
	f := setupAccounts(t)
	sa, core := f.newAccount(t, "bot"), f.client.CoreV1()
	secret, err := core.Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "token",
		Annotations: map[string]string{corev1.ServiceAccountNameKey: "bot"}}, Type: corev1.SecretTypeServiceAccountToken}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := f.SignSecretToken(sa, secret)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := f.whoami(t, token); err == nil {
		t.Errorf("what the Secret does not have is %+v", who)
	}
	put := func(data string, labels map[string]string) {
		t.Helper()
		now, err := core.Secrets("default").Get(t.Context(), "token", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now.Data, now.Labels = map[string][]byte{"token": []byte(data)}, labels
		if _, err := core.Secrets("default").Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put(token, nil)
	who, err := f.whoami(t, token)
	if err != nil || who.Username != "system:serviceaccount:default:bot" || who.UID != string(sa.UID) ||
		strings.Join(who.Groups, " ") != "system:serviceaccounts system:serviceaccounts:default system:authenticated" {
		t.Errorf("got %+v, %v", who, err)
	}
	if claims := claimsOf(t, token); claims["iss"] != "kubernetes/serviceaccount" || claims["exp"] != nil || claims["kubernetes.io/serviceaccount/secret.name"] != "token" {
		t.Errorf("claims %v", claims)
	}
	used, err := core.Secrets("default").Get(t.Context(), "token", metav1.GetOptions{})
	if day := used.Labels["kubernetes.io/legacy-token-last-used"]; err != nil || day != time.Now().UTC().Format(time.DateOnly) {
		t.Errorf("used on %q, %v", day, err)
	}
	if got := f.reviewed(t, token); !got.Authenticated || got.User.Username != "system:serviceaccount:default:bot" {
		t.Errorf("reviewed %+v", got)
	}
	put(token, map[string]string{"kubernetes.io/legacy-token-invalid-since": "2026-01-01"})
	if who, err := f.whoami(t, token); err == nil {
		t.Errorf("one that is marked invalid is %+v", who)
	}
	put("another", nil)
	if got := f.reviewed(t, token); got.Authenticated || !strings.Contains(got.Error, "Token does not match server's copy") {
		t.Errorf("one that was replaced is %+v", got)
	}
	put(token, nil)
	if err := core.Secrets("default").Delete(t.Context(), "token", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if who, err := f.whoami(t, token); err == nil {
		t.Errorf("one whose Secret is gone is %+v", who)
	}
}

// Whom the users of a signer trust is said by who may attest for it; a bundle of no signer is anybody's
// who may write bundles.
func TestClusterTrustBundles(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const group, path = "certificates.k8s.io", "/apis/certificates.k8s.io/v1/clustertrustbundles"
	writer := rule(group, "clustertrustbundles", "create")
	writer.Verbs = []string{"get", "create", "update", "patch"}
	f.grant(t, "writer", writer)
	f.grant(t, "attester", writer, rule(group, "signers", "attest", "example.com/signer"))
	body := func(name, signer string) string {
		return `{"apiVersion":"certificates.k8s.io/v1","kind":"ClusterTrustBundle","metadata":{"name":"` + name + `"},"spec":{"signerName":"` + signer +
			`","trustBundle":` + strconv.Quote(string(f.certs.ca.certPEM)) + `}}`
	}
	try := func(user, method, path, body string, p probe) {
		t.Helper()
		resp, answer := f.httpAs(t, f.asUser(t, user, true), method, path, body, map[string]string{"Content-Type": map[bool]string{true: "application/merge-patch+json", false: "application/json"}[method == "PATCH"]})
		p.check(t, resp, answer)
	}
	const refused = `clustertrustbundles.certificates.k8s.io "example.com:signer:a" is forbidden: user not permitted to attest for signerName "example.com/signer"`
	try("writer", "POST", path, body("plain", ""), probe{code: 201})
	try("writer", "POST", path, body("example.com:signer:a", "example.com/signer"), probe{code: 403, message: refused})
	try("attester", "POST", path, body("example.com:signer:a", "example.com/signer"), probe{code: 201})
	try("attester", "POST", path, body("example.com:other:a", "example.com/other"), probe{code: 403, has: []string{`attest for signerName \"example.com/other\"`}})
	label := `{"metadata":{"labels":{"a":"b"}}}`
	try("writer", "PATCH", path+"/example.com:signer:a", label, probe{code: 403, message: refused})
	try("attester", "PATCH", path+"/example.com:signer:a", label, probe{code: 200})
	try("writer", "PATCH", path+"/example.com:signer:a", `{"metadata":{"finalizers":["a.b/c"]}}`, probe{code: 200})
	try("attester", "PATCH", path+"/example.com:signer:a", `{"spec":{"trustBundle":"noise"}}`, probe{code: 422})
	f.run(t, []probe{
		{name: "by its signer", path: path + "?fieldSelector=spec.signerName%3Dexample.com%2Fsigner", code: 200, has: []string{`"name":"example.com:signer:a"`}, not: []string{"plain"}},
	})
}

// What becomes of a pod's request is said by who may sign for its signer.
func TestPodCertificateRequests(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const group, path = "certificates.k8s.io", "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests"
	writer := rule(group, "podcertificaterequests", "create")
	writer.Resources, writer.Verbs = append(writer.Resources, "podcertificaterequests/status"), []string{"get", "create", "update", "patch"}
	f.grant(t, "writer", writer)
	f.grant(t, "signer", writer, rule(group, "signers", "sign", "example.com/signer"))
	_, text := request(t, pkix.Name{})
	block, _ := pem.Decode(text)
	body := `{"apiVersion":"certificates.k8s.io/v1","kind":"PodCertificateRequest","metadata":{"name":"a"},"spec":{"signerName":"example.com/signer","podName":"p","podUID":"u",
		"serviceAccountName":"default","serviceAccountUID":"s","nodeName":"n","nodeUID":"o","stubPKCS10Request":"` + base64.StdEncoding.EncodeToString(block.Bytes) + `"},
		"status":{"certificateChain":"forged"}}`
	resp, answer := f.httpAs(t, f.asUser(t, "writer", true), "POST", path, body, nil)
	(&probe{code: 201, has: []string{`"maxExpirationSeconds":86400`, `"status":{}`}}).check(t, resp, answer)
	denied := `{"status":{"conditions":[{"type":"Denied","status":"True","reason":"No","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`
	patch := map[string]string{"Content-Type": "application/merge-patch+json"}
	for _, try := range []struct {
		user, sub, body string
		p               probe
	}{
		{"writer", "/status", denied, probe{code: 422, has: []string{`User \"writer\" is not permitted to \"sign\" for signer \"example.com/signer\"`}}},
		{"writer", "", denied, probe{code: 200, not: []string{"Denied"}}},
		{"signer", "/status", `{"status":{"certificateChain":"forged"}}`, probe{code: 422, has: []string{"status is immutable unless transitioning to"}}},
		{"signer", "/status", denied, probe{code: 200, has: []string{`"type":"Denied"`}}},
		{"signer", "/status", `{"status":{"conditions":null}}`, probe{code: 422, has: []string{"immutable after PodCertificateRequest is issued, denied, or failed"}}},
	} {
		resp, answer := f.httpAs(t, f.asUser(t, try.user, true), "PATCH", path+"/a"+try.sub, try.body, patch)
		try.p.check(t, resp, answer)
	}
}
