package agent

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/reason"
)

// certified gives a pod a volume with a certificate.
func certified(p *corev1.Pod) {
	p.Spec.ServiceAccountName = "bot"
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: "a/b", KeyType: "ECDSAP256", MaxExpirationSeconds: ptr.To[int32](7200), KeyPath: "key", CertificateChainPath: "chain",
			UserAnnotations: map[string]string{"a.b/c": "d"},
		}}}}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
}

// answer gives the last request a condition; a certificate begins with its name.
func (b *bench) answer(condition string) *certificatesv1.PodCertificateRequest {
	b.t.Helper()
	b.fakeClient.mu.Lock()
	defer b.fakeClient.mu.Unlock()
	if len(b.asked) == 0 {
		b.t.Fatal("nobody has asked")
	}
	r := b.asked[len(b.asked)-1]
	r.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue, Reason: "Why", Message: "because"}}
	if condition == certificatesv1.PodCertificateRequestConditionTypeIssued {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: []byte(r.Name)})
		r.Status.CertificateChain = "noise\n" + string(block)
		r.Status.BeginRefreshAt = ptr.To(metav1.NewTime(time.Now().Add(time.Hour)))
		r.Status.NotAfter = ptr.To(metav1.NewTime(time.Now().Add(2 * time.Hour)))
	}
	return r
}

func (b *bench) chain() string {
	v, _ := b.run.Volume("uid-p", "v")
	block, rest := pem.Decode(v.Files["chain"].Data)
	if block == nil || len(rest) > 0 || len(block.Headers) > 0 {
		return string(v.Files["chain"].Data)
	}
	return string(block.Bytes)
}

// A pod has a certificate for a key of its own before it starts, and another before that ends.
func TestPodCertificateIsRenewed(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", certified))
		after(5 * time.Second)
		b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
		b.wantEvents(`FailedMount: MountVolume.SetUp failed for volume "v" : credential bundle is not issued yet`)
		r := b.answer(certificatesv1.PodCertificateRequestConditionTypeIssued)
		s := r.Spec
		if s.SignerName != "a/b" || s.PodName != "p" || s.PodUID != "uid-p" || s.ServiceAccountName != "bot" || s.ServiceAccountUID != "uid-bot" ||
			s.NodeName != "n1" || *s.MaxExpirationSeconds != 7200 || s.UnverifiedUserAnnotations["a.b/c"] != "d" || r.OwnerReferences[0].UID != "uid-p" {
			t.Errorf("asked for %+v", r)
		}
		proof, err := x509.ParseCertificateRequest(s.StubPKCS10Request)
		if err != nil || proof.CheckSignature() != nil {
			t.Fatalf("proof: %v", err)
		}
		after(time.Minute)
		b.want("p", corev1.PodRunning)
		v, _ := b.run.Volume("uid-p", "v")
		block, _ := pem.Decode(v.Files["key"].Data)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if k, ok := key.(interface{ Public() any }); ok && !proof.PublicKey.(interface{ Equal(any) bool }).Equal(k.Public()) {
			t.Error("the key is another than the one that was asked for")
		}
		if got := b.chain(); got != r.Name || !v.Memory {
			t.Errorf("got %q", got)
		}
		after(59 * time.Minute)
		if len(b.asked) != 1 {
			t.Fatal("asked again too soon")
		}
		after(10 * time.Minute)
		if len(b.asked) != 2 {
			t.Fatal("not asked again")
		}
		if got := b.chain(); got != r.Name {
			t.Errorf("while it is being renewed: %q", got)
		}
		second := b.answer(certificatesv1.PodCertificateRequestConditionTypeIssued)
		after(2 * time.Minute)
		if got := b.chain(); got != second.Name {
			t.Errorf("renewed: %q", got)
		}
	})
}

// A request that somebody deletes is made again; a renewal that nobody answers is told of.
func TestPodCertificateIsNotRenewed(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", certified))
		after(5 * time.Second)
		b.fakeClient.mu.Lock()
		b.asked = nil
		b.fakeClient.mu.Unlock()
		after(30 * time.Second)
		b.wantEvents(`FailedMount: MountVolume.SetUp failed for volume "v" : PodCertificateRequest "ns/req-1" appears to have been deleted`)
		r := b.answer(certificatesv1.PodCertificateRequestConditionTypeIssued)
		after(3 * time.Hour)
		b.want("p", corev1.PodRunning)
		if got := b.chain(); got != r.Name {
			t.Errorf("got %q", got)
		}
		b.wantEvents(reason.CertificateOverdueForRefresh+": PodCertificate refresh overdue", reason.CertificateExpired+": PodCertificate expired")
		count := 0
		for _, e := range b.events() {
			if strings.HasPrefix(e, "Certificate") {
				count++
			}
		}
		if count != 2 {
			t.Errorf("told %d times: %q", count, b.events())
		}
	})
}

// What a signer refuses, it refuses for good.
func TestPodCertificateIsRefused(t *testing.T) {
	for condition, text := range map[string]string{
		certificatesv1.PodCertificateRequestConditionTypeDenied: "denied",
		certificatesv1.PodCertificateRequestConditionTypeFailed: "failed",
	} {
		t.Run(condition, func(t *testing.T) {
			story(t, func(b *bench) {
				b.put(testPod("p", certified))
				after(5 * time.Second)
				b.answer(condition)
				after(10 * time.Minute)
				b.want("p", corev1.PodPending)
				if len(b.asked) != 1 {
					t.Errorf("asked %d times", len(b.asked))
				}
				b.wantEvents(`FailedMount: MountVolume.SetUp failed for volume "v" : PodCertificateRequest was permanently ` + text + `: reason="Why" message="because"`)
			})
		})
	}
}

// Every type of key that the API allows can be made.
func TestNewPodKey(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"RSA3072", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"} {
		_, proof, err := newPodKey(kind)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if r, err := x509.ParseCertificateRequest(proof); err != nil || r.CheckSignature() != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, _, err := newPodKey("RSA1024"); err == nil {
		t.Error("made a key of a type that there is not")
	}
}
