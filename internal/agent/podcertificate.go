package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/reason"
)

// certifier is what the certificates of all pods have in common.
type certifier struct {
	*Options
	keys sync.Mutex // one is made for a pod at a time: a large one takes seconds
}

// podCertificates are the keys and certificates that the volumes of a pod show. A key is made here,
// and never leaves the volume; a PodCertificateRequest asks a signer for the certificates.
//
//	none ──▶ asked ──▶ issued ──▶ issued, asked ──┐
//	           │          ▲            │          │
//	           │          └────────────┼──────────┘
//	           └──▶ refused ◀──────────┘
//
// Whoever brings the volumes up to date, each minute, takes a step. Nothing is remembered across
// restarts of the node: it asks anew, as a kubelet does.
type podCertificates struct {
	mu   sync.Mutex
	held map[certificateKey]*podCertificate
}

// certificateKey is which source of which volume.
type certificateKey struct {
	volume string
	source int
}

type podCertificate struct {
	key, chain   []byte // PEM; empty: none yet
	renew, until time.Time
	asked        string // the name of the request that is open, and the key that it is for
	askedKey     []byte
	refused      error // for good

	saidOverdue, saidExpired bool
}

const (
	// certificateJitter spreads renewals, so that not all are asked for at once.
	certificateJitter = 5 * time.Minute
	// certificateOverdue is how late a renewal may be before the pod has an Event of it.
	certificateOverdue = 10 * time.Minute
)

var errNotIssued = errors.New("credential bundle is not issued yet")

// get returns the key of a source and the certificates for it, and sees to it that they are renewed.
func (c *podCertificates) get(ctx context.Context, o *certifier, object *corev1.Pod, at certificateKey, src *corev1.PodCertificateProjection, now time.Time) (key, chain []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[certificateKey]*podCertificate{}
	}
	cert := c.held[at]
	if cert == nil {
		cert = &podCertificate{}
		c.held[at] = cert
	}
	switch {
	case cert.refused != nil:
	case cert.asked != "":
		err = cert.look(ctx, o, object)
	case len(cert.chain) == 0 || !now.Before(cert.renew):
		err = cert.ask(ctx, o, object, src)
	}
	cert.complain(o, object, now)
	switch {
	case cert.refused != nil:
		return nil, nil, cert.refused
	case len(cert.chain) > 0: // what there is serves until there is better
		return cert.key, cert.chain, nil
	case err != nil:
		return nil, nil, err
	}
	return nil, nil, errNotIssued
}

// ask makes a key and asks for a certificate for it.
func (c *podCertificate) ask(ctx context.Context, o *certifier, object *corev1.Pod, src *corev1.PodCertificateProjection) error {
	account, err := o.Client.ServiceAccount(ctx, object.Namespace, object.Spec.ServiceAccountName)
	if err != nil {
		return fmt.Errorf("while fetching service account: %w", err)
	}
	o.keys.Lock()
	key, proof, err := newPodKey(src.KeyType)
	o.keys.Unlock()
	if err != nil {
		return fmt.Errorf("while generating keypair: %w", err)
	}
	request, err := o.Client.CreatePodCertificateRequest(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: object.Namespace, GenerateName: "req-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: object.Name, UID: object.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: src.SignerName, PodName: object.Name, PodUID: object.UID,
			ServiceAccountName: object.Spec.ServiceAccountName, ServiceAccountUID: account.UID,
			NodeName: types.NodeName(o.Node.Name()), NodeUID: o.Node.UID(),
			MaxExpirationSeconds: src.MaxExpirationSeconds, StubPKCS10Request: proof, UnverifiedUserAnnotations: src.UserAnnotations,
		},
	})
	if err != nil {
		return fmt.Errorf("while creating on API: %w", err)
	}
	c.asked, c.askedKey = request.Name, key
	return nil
}

// look looks what has become of the request.
func (c *podCertificate) look(ctx context.Context, o *certifier, object *corev1.Pod) error {
	name := object.Namespace + "/" + c.asked
	request, err := o.Client.PodCertificateRequest(ctx, object.Namespace, c.asked)
	switch {
	case apierrors.IsNotFound(err): // the next step asks anew
		c.asked, c.askedKey = "", nil
		return fmt.Errorf("PodCertificateRequest %q appears to have been deleted", name)
	case err != nil:
		return fmt.Errorf("while getting PodCertificateRequest %q: %w", name, err)
	}
	for _, cond := range request.Status.Conditions {
		switch cond.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			c.refused = fmt.Errorf("PodCertificateRequest was permanently denied: reason=%q message=%q", cond.Reason, cond.Message)
			c.say(o, object, reason.Denied, fmt.Sprintf("PodCertificateRequest %s was denied, reason=%q, message=%q", name, cond.Reason, cond.Message))
			return c.refused
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			c.refused = fmt.Errorf("PodCertificateRequest was permanently failed: reason=%q message=%q", cond.Reason, cond.Message)
			c.say(o, object, reason.Failed, fmt.Sprintf("PodCertificateRequest %s failed, reason=%q, message=%q", name, cond.Reason, cond.Message))
			return c.refused
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			*c = podCertificate{
				key: c.askedKey, chain: cleanChain(request.Status.CertificateChain),
				renew: ptr.Deref(request.Status.BeginRefreshAt, metav1.Time{}).Add(mathrand.N(certificateJitter)),
				until: ptr.Deref(request.Status.NotAfter, metav1.Time{}).Time,
			}
			return nil
		}
	}
	return nil
}

// complain tells once that the renewal is late, and once that the certificate has ended.
func (c *podCertificate) complain(o *certifier, object *corev1.Pod, now time.Time) {
	if len(c.chain) == 0 || c.refused != nil {
		return
	}
	if now.After(c.renew.Add(certificateOverdue)) && !c.saidOverdue {
		c.saidOverdue = true
		c.say(o, object, reason.CertificateOverdueForRefresh, "PodCertificate refresh overdue")
	}
	if now.After(c.until) && !c.saidExpired {
		c.saidExpired = true
		c.say(o, object, reason.CertificateExpired, "PodCertificate expired")
	}
}

func (c *podCertificate) say(o *certifier, object *corev1.Pod, reason, message string) {
	o.Client.Record(note(object, nil, warning, reason, message))
}

// newPodKey makes a key of a type of the API. It returns it as PEM, and a request, DER, that is signed
// by it and says nothing else.
func newPodKey(kind string) (key, proof []byte, err error) {
	private, err := generateKey(kind)
	if err != nil {
		return nil, nil, err
	}
	if proof, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), proof, nil
}

func generateKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "RSA3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "ECDSAP256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSAP384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSAP521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ED25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("unknown key type %q", kind)
}

// cleanChain returns the certificates of a chain, PEM, without what stands between them.
func cleanChain(chain string) []byte {
	var out bytes.Buffer
	for block, rest := pem.Decode([]byte(chain)); block != nil; block, rest = pem.Decode(rest) {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
	}
	return out.Bytes()
}
