package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// keyOf is one key for all requests.
func keyOf(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// asking returns a request for a certificate; usages are separated by commas.
func asking(t testing.TB, signer, usages string, template x509.CertificateRequest) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, keyOf(t))
	if err != nil {
		t.Fatal(err)
	}
	r := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r", CreationTimestamp: metav1.NewTime(start), ResourceVersion: "7"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Username: "jane", Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})},
	}
	for usage := range strings.SplitSeq(usages, ",") {
		r.Spec.Usages = append(r.Spec.Usages, certificatesv1.KeyUsage(usage))
	}
	return r
}

func with(r *certificatesv1.CertificateSigningRequest, conditions ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
	r = r.DeepCopy()
	for _, c := range conditions {
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: c, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(start)})
	}
	return r
}

func state(r *certificatesv1.CertificateSigningRequest) State {
	return State{
		Kind: kind.CertificateSigningRequest(), Request: r,
		May: func(string) bool { return false },
		Sign: func(now time.Time, request *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error) {
			return []byte(now.Format("15:04 ") + request.Subject.CommonName + " " + life.String()), nil
		},
	}
}

// decided is the request as a decision leaves it; nil if it does not write it.
func decided(t testing.TB, set change.Set) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	if len(set.Writes) == 0 {
		return nil
	}
	if w := set.Writes[0]; len(set.Writes) > 1 || w.Op != change.Update || w.Rev != 7 {
		t.Fatalf("got %+v", set.Writes)
	}
	return set.Writes[0].Object.(*certificatesv1.CertificateSigningRequest)
}

const (
	client, kubelet, serving = certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeletServingSignerName
	approved, denied, failed = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed
)

// TestSign: what is approved is signed, if it is what its signer signs; else it is said why not.
func TestSign(t *testing.T) {
	t.Parallel()
	jane := x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}
	node := x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:n", Organization: []string{"system:nodes"}}}
	server := node
	server.DNSNames = []string{"n"}
	const auth, serves = "digital signature,key encipherment,client auth", "digital signature,server auth"
	for _, test := range []struct {
		name   string
		r      *certificatesv1.CertificateSigningRequest
		failed string // why
		signed bool
	}{
		{"approved", with(asking(t, client, auth, jane), approved), "", true},
		{"not approved", asking(t, client, auth, jane), "", false},
		{"denied", with(asking(t, client, auth, jane), denied), "", false},
		{"approved and denied", with(asking(t, client, auth, jane), approved, denied), "", false},
		{"failed before", with(asking(t, client, auth, jane), approved, failed), "", false},
		{"for a server", with(asking(t, client, auth+",server auth", jane), approved), "invalid usage for client certificate: server auth", false},
		{"for no client", with(asking(t, client, "digital signature", jane), approved), "missing required usage for client certificate: client auth", false},
		{"of a node", with(asking(t, kubelet, auth, node), approved), "", true},
		{"of no node", with(asking(t, kubelet, auth, jane), approved), "subject organization is not system:nodes", false},
		{"of a node with names", with(asking(t, kubelet, auth, server), approved), "DNS subjectAltNames are not allowed", false},
		{"of a node's server", with(asking(t, serving, serves, server), approved), "", true},
		{"of one without names", with(asking(t, serving, serves, node), approved), "DNS or IP subjectAltName is required", false},
		{"of another signer", with(asking(t, "example.com/own", auth, jane), approved), "", false},
		{"of a signer of Kubernetes that there is not", with(asking(t, "kubernetes.io/legacy-unknown", auth, jane), approved), "", false},
	} {
		next := decided(t, Decide(start.Add(time.Minute), state(test.r)))
		if signed := next != nil && len(next.Status.Certificate) > 0; signed != test.signed {
			t.Errorf("%s: signed: %v", test.name, signed)
		}
		if test.signed || test.failed == "" {
			if next != nil && len(next.Status.Conditions) != len(test.r.Status.Conditions) {
				t.Errorf("%s: %+v", test.name, next.Status.Conditions)
			}
			continue
		}
		last := next.Status.Conditions[len(next.Status.Conditions)-1]
		if last.Type != failed || last.Reason != "SignerValidationFailure" || last.Message != test.failed || !last.LastUpdateTime.Equal(ptr.To(metav1.NewTime(start.Add(time.Minute)))) {
			t.Errorf("%s: %+v", test.name, last)
		}
	}
}

// TestHugeKey: a key that it would take for ever to check is not signed. The request is as crypto/x509
// reads it: to make one takes as long.
func TestHugeKey(t *testing.T) {
	t.Parallel()
	r := with(asking(t, client, "client auth", x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}), approved)
	for bits, want := range map[uint]string{longestKey - 1: "", 1 << 20: "the public key has 1048577 bits, more than 8192"} {
		a := answer{State: state(r), now: start, next: r.DeepCopy(), request: &x509.CertificateRequest{PublicKey: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits), E: 65537}}}
		if !a.sign() {
			t.Fatalf("of %d bits: it is not answered", bits)
		}
		last := a.next.Status.Conditions[len(a.next.Status.Conditions)-1]
		if signed := len(a.next.Status.Certificate) > 0; signed != (want == "") || !signed && (last.Type != failed || last.Message != want) {
			t.Errorf("of %d bits: signed %v, %+v", bits, signed, last)
		}
	}
}

// TestLife: how long certificates live, and an authority that does not sign any more.
func TestLife(t *testing.T) {
	t.Parallel()
	r := with(asking(t, client, "client auth", x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}), approved)
	for want, asked := range map[string]*int32{
		"12:01 jane 8760h0m0s": nil, "12:01 jane 1h0m0s": ptr.To[int32](3600), "12:01 jane 10m0s": ptr.To[int32](1), "12:01 jane 8760h0m0s ": ptr.To[int32](1 << 30),
	} {
		r.Spec.ExpirationSeconds = asked
		if got := decided(t, Decide(start.Add(time.Minute), state(r))).Status.Certificate; string(got) != strings.TrimSpace(want) {
			t.Errorf("%v: %s, want %s", asked, got, want)
		}
	}
	s := state(r)
	s.Sign = func(time.Time, *x509.CertificateRequest, []certificatesv1.KeyUsage, time.Duration) ([]byte, error) {
		return nil, errors.New("the signer has expired")
	}
	next := decided(t, Decide(start.Add(time.Minute), s))
	if c := next.Status.Conditions[1]; c.Type != failed || c.Message != "the signer has expired" || len(next.Status.Certificate) > 0 {
		t.Errorf("%+v", next.Status)
	}
}

// TestApprove: nodes are approved by what their user may, and nobody else is.
func TestApprove(t *testing.T) {
	t.Parallel()
	node := x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:n", Organization: []string{"system:nodes"}}}
	own := asking(t, kubelet, "digital signature,client auth", node)
	own.Spec.Username = "system:node:n"
	others := asking(t, kubelet, "digital signature,client auth", node)
	plain := asking(t, client, "client auth", x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}})
	for _, test := range []struct {
		name    string
		r       *certificatesv1.CertificateSigningRequest
		may     string
		message string
	}{
		{"its own", own, "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."},
		{"its own, as anybody's", own, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."},
		{"another's", others, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."},
		{"another's, by who may for himself", others, "selfnodeclient", ""},
		{"nobody's", own, "", ""},
		{"a user's", plain, "nodeclient", ""},
		{"denied", with(own, denied), "selfnodeclient", ""},
	} {
		s := state(test.r)
		s.May = func(subresource string) bool { return subresource == test.may }
		next := decided(t, Decide(start, s))
		if test.message == "" {
			if next != nil {
				t.Errorf("%s: %+v", test.name, next.Status)
			}
			continue
		}
		c := next.Status.Conditions[0]
		if c.Type != approved || c.Reason != "AutoApproved" || c.Message != test.message || len(next.Status.Certificate) == 0 {
			t.Errorf("%s: %+v", test.name, next.Status)
		}
	}
}

// TestEnds: requests go when nobody needs them any more, and are looked at again then, not before.
func TestEnds(t *testing.T) {
	t.Parallel()
	jane := asking(t, client, "client auth", x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}})
	issued := with(jane, approved)
	issued.Status.Certificate = lasting(t, 2*time.Hour)
	short := with(jane, approved)
	short.Status.Certificate = lasting(t, 20*time.Minute)
	unreadable := with(jane, approved)
	unreadable.Status.Certificate = []byte("noise")
	foreign := with(jane, approved)
	foreign.Spec.SignerName = "example.com/own"
	undated := with(jane, denied)
	undated.Status.Conditions[0].LastUpdateTime = metav1.Time{}
	held := jane.DeepCopy()
	held.DeletionTimestamp = ptr.To(metav1.NewTime(start))
	for _, test := range []struct {
		name string
		r    *certificatesv1.CertificateSigningRequest
		end  time.Duration // 0: never
	}{
		{"pending", jane, 24 * time.Hour},
		{"denied", with(jane, denied), time.Hour},
		{"failed", with(jane, approved, failed), time.Hour},
		{"issued", issued, time.Hour},
		{"issued, and ended", short, 20 * time.Minute},
		{"issued by somebody", unreadable, time.Hour},
		{"approved, but not issued", foreign, 24 * time.Hour},
		{"denied at no time", undated, 0},
		{"being deleted", held, 0},
	} {
		end := start.Add(test.end)
		if test.end == 0 {
			if set := Decide(start.Add(1000*time.Hour), state(test.r)); !set.Empty() || !set.WakeAt.IsZero() {
				t.Errorf("%s: %+v", test.name, set)
			}
			continue
		}
		if set := Decide(end.Add(-time.Second), state(test.r)); !set.Empty() || !set.WakeAt.Equal(end) {
			t.Errorf("%s, before: %d writes, wakes %v, want %v", test.name, len(set.Writes), set.WakeAt, end)
		}
		if set := Decide(end, state(test.r)); len(set.Writes) != 1 || set.Writes[0].Op != change.Delete || set.Writes[0].Rev != 7 {
			t.Errorf("%s, then: %+v", test.name, set.Writes)
		}
	}
}

// lasting is a certificate that ends after a time.
func lasting(t testing.TB, life time.Duration) []byte {
	t.Helper()
	key := keyOf(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// A request that is noise, which no client can have created, decides nothing and harms nobody.
func TestNoise(t *testing.T) {
	t.Parallel()
	r := with(asking(t, client, "client auth", x509.CertificateRequest{}), approved)
	r.Spec.Request = []byte("noise")
	if set := Decide(start, state(r)); !set.Empty() {
		t.Errorf("%+v", set.Writes)
	}
}

// The request of a pod is kept for half an hour.
func TestClean(t *testing.T) {
	t.Parallel()
	k := kind.PodCertificateRequest()
	made := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x", ResourceVersion: "5", CreationTimestamp: metav1.NewTime(made)}}
	if set := Clean(made.Add(29*time.Minute), k, r); len(set.Writes) > 0 || !set.WakeAt.Equal(made.Add(30*time.Minute)) {
		t.Errorf("too soon: %+v", set)
	}
	if set := Clean(made.Add(30*time.Minute), k, r); len(set.Writes) != 1 || set.Writes[0].Op != change.Delete {
		t.Errorf("when its time is over: %+v", set)
	}
}
