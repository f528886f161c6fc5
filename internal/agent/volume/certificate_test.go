package volume

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func anchor(of string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(of)}))
}

func bundle(signer, alive string, anchors ...string) *certificatesv1.ClusterTrustBundle {
	return &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"alive": alive}},
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: strings.Join(anchors, "in between\n")},
	}
}

func projection(s corev1.VolumeProjection) corev1.VolumeSource {
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{s}}}
}

// A volume shows whom to trust: each certificate once, of one bundle or of those that are selected
// of a signer's.
func TestTrustBundle(t *testing.T) {
	t.Parallel()
	api := objects{
		"one": bundle("a/b", "yes", anchor("2"), anchor("1")), "two": bundle("a/b", "no", anchor("2"), anchor("3")),
		"other": bundle("c/d", "yes", anchor("4")), "none": bundle("", "yes", anchor("5")),
	}
	alive := &metav1.LabelSelector{MatchLabels: map[string]string{"alive": "yes"}}
	const zero = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
	for name, test := range map[string]struct {
		src  corev1.ClusterTrustBundleProjection
		want string
		err  string
	}{
		"by name":               {src: corev1.ClusterTrustBundleProjection{Name: ptr.To("none")}, want: anchor("5")},
		"in order":              {src: corev1.ClusterTrustBundleProjection{Name: ptr.To("one")}, want: anchor("1") + anchor("2")},
		"no such name":          {src: corev1.ClusterTrustBundleProjection{Name: ptr.To("x")}, err: `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "x" not found`},
		"optional":              {src: corev1.ClusterTrustBundleProjection{Name: ptr.To("x"), Optional: ptr.To(true)}},
		"all of a signer":       {src: corev1.ClusterTrustBundleProjection{SignerName: ptr.To("a/b"), LabelSelector: &metav1.LabelSelector{}}, want: anchor("1") + anchor("2") + anchor("3")},
		"selected":              {src: corev1.ClusterTrustBundleProjection{SignerName: ptr.To("a/b"), LabelSelector: alive}, want: anchor("1") + anchor("2")},
		"no selector":           {src: corev1.ClusterTrustBundleProjection{SignerName: ptr.To("a/b")}, err: zero},
		"no selector, optional": {src: corev1.ClusterTrustBundleProjection{SignerName: ptr.To("a/b"), Optional: ptr.To(true)}},
		"none of the signer":    {src: corev1.ClusterTrustBundleProjection{SignerName: ptr.To("e/f"), LabelSelector: alive}, err: zero},
		"a long selector": {src: corev1.ClusterTrustBundleProjection{SignerName: ptr.To("a/b"), Optional: ptr.To(true),
			LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "k", Operator: "In", Values: many(3000)}}}}, err: "is larger than 102400"},
		"neither": {err: "ClusterTrustBundle projection requires either name or signerName to be set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.src.Path = "ca"
			v, err := setup(t, newPod(t, api, projection(corev1.VolumeProjection{ClusterTrustBundle: &test.src})))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f, ok := v.Files["ca"]; !ok || string(f.Data) != test.want || f.Mode != 0o644 || f.UID != nil || v.Memory {
				t.Errorf("got %+v in memory %v", f, v.Memory)
			}
		})
	}
}

// many returns n label values of 63 characters.
func many(n int) (values []string) {
	for range n {
		values = append(values, strings.Repeat("v", 63))
	}
	return values
}

// Bundles of others do not make a volume larger than a runner takes.
func TestTrustBundlesAreBounded(t *testing.T) {
	t.Parallel()
	api := objects{}
	for _, name := range []string{"a", "b", "c"} {
		api[name] = bundle("a/b", "", anchor(strings.Repeat(name, maxFiles/2)))
	}
	_, err := setup(t, newPod(t, api, projection(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
		SignerName: ptr.To("a/b"), LabelSelector: &metav1.LabelSelector{}, Path: "ca"}})))
	if !errors.Is(err, errTooLarge) {
		t.Errorf("got %v", err)
	}
}

// A key and its certificates are in the files that are asked for, in memory, and for the pod's user.
func TestPodCertificate(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil, projection(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
		SignerName: "a/b", KeyType: "ED25519", CredentialBundlePath: "both", KeyPath: "key", CertificateChainPath: "chain"}}))
	p.Object.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](7)}
	p.Certificate = func(volume string, source int, src *corev1.PodCertificateProjection) (key, chain []byte, err error) {
		return []byte("K of " + volume), []byte("C by " + src.SignerName), nil
	}
	v, err := setup(t, p)
	if err != nil {
		t.Fatal(err)
	}
	want := "both 600 K of vC by a/b|chain 600 C by a/b|key 600 K of v"
	if got := strings.Join(show(v), "|"); got != want || !v.Memory || *v.Files["key"].UID != 7 {
		t.Errorf("got %s in memory %v", got, v.Memory)
	}
	p.Certificate = func(string, int, *corev1.PodCertificateProjection) (key, chain []byte, err error) {
		return nil, nil, errors.New("not yet")
	}
	if _, err := setup(t, p); err == nil || err.Error() != `MountVolume.SetUp failed for volume "v" : not yet` {
		t.Errorf("got %v", err)
	}
}
