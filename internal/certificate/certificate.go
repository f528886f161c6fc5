// Package certificate is the core that answers CertificateSigningRequests, as four controllers of
// Kubernetes do: it approves what a node asks for by itself, signs what is approved, says why it does
// not, and removes what has been answered, or never was. The PodCertificateRequests of pods are for
// signers of others; it removes them.
//
// It owns which request is one for which signer, and how long a certificate lives. The key is not its
// own: who carries decisions out hands in what signs.
package certificate

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/kubernetes/pkg/apis/certificates"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// State is what a decision is made from.
type State struct {
	Kind    *kind.Kind
	Request *certificatesv1.CertificateSigningRequest
	// May reports whether who made the request may create this subresource of requests: in what way he
	// gets a certificate without being asked for.
	May func(subresource string) bool
	// Sign signs a request. The certificate is PEM, and ends with its signer at the latest.
	Sign func(now time.Time, request *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error)
}

// How long requests are kept.
const (
	answeredLife = time.Hour
	openLife     = 24 * time.Hour
)

// How long certificates live: as long as they are asked for, within these.
const (
	longestLife  = 365 * 24 * time.Hour // (kube-controller-manager --cluster-signing-duration)
	shortestLife = 10 * time.Minute
)

// Decide answers a request.
func Decide(now time.Time, s State) change.Set {
	var set change.Set
	key, rev := s.Kind.KeyOf(s.Request), change.RevOf(s.Request)
	if s.Request.DeletionTimestamp != nil {
		return set
	}
	end := ends(s.Request)
	if !end.IsZero() && !now.Before(end) {
		if w, ok := s.Kind.Removal(s.Request, rev, now, nil); ok {
			set.Writes = append(set.Writes, w)
		}
		return set
	}
	set.Wake(end)
	request, err := certificates.ParseCSR(s.Request.Spec.Request)
	if err != nil {
		return set // no client can have created it
	}
	a := answer{State: s, now: now, request: request, next: s.Request.DeepCopy()}
	approved := a.approve()
	if answered := a.sign(); approved || answered {
		set.Update(key, rev, a.next)
	}
	return set
}

// podRequestLife is how long the request of a pod is kept, whatever becomes of it.
// (kube-controller-manager's podcertificaterequest-cleaner)
const podRequestLife = 30 * time.Minute

// Clean removes the request of a pod when its time is over.
func Clean(now time.Time, k *kind.Kind, request *certificatesv1.PodCertificateRequest) change.Set {
	var set change.Set
	if request.DeletionTimestamp != nil {
		return set
	}
	if end := request.CreationTimestamp.Add(podRequestLife); now.Before(end) {
		set.Wake(end)
		return set
	}
	if w, ok := k.Removal(request, change.RevOf(request), now, nil); ok {
		set.Writes = append(set.Writes, w)
	}
	return set
}

// ends is when a request is removed: the earliest that one of its conditions says.
func ends(r *certificatesv1.CertificateSigningRequest) time.Time {
	if len(r.Status.Conditions) == 0 {
		return r.CreationTimestamp.Add(openLife)
	}
	var end time.Time
	before := func(t time.Time) {
		if end.IsZero() || t.Before(end) {
			end = t
		}
	}
	for _, c := range r.Status.Conditions {
		if c.Type == certificatesv1.CertificateApproved {
			if t := expiry(r.Status.Certificate); !t.IsZero() {
				before(t)
			}
		}
		life := answeredLife
		switch {
		case c.LastUpdateTime.IsZero():
			continue
		case c.Type == certificatesv1.CertificateApproved && len(r.Status.Certificate) == 0:
			life = openLife
		case c.Type != certificatesv1.CertificateApproved && c.Type != certificatesv1.CertificateDenied && c.Type != certificatesv1.CertificateFailed:
			continue
		}
		before(c.LastUpdateTime.Add(life))
	}
	return end
}

// expiry is the end of the first certificate, zero if there is none that can be read.
func expiry(text []byte) time.Time {
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}
	}
	certs, err := x509.ParseCertificates(block.Bytes)
	if err != nil || len(certs) == 0 {
		return time.Time{}
	}
	return certs[0].NotAfter
}

// answer makes next of a request.
type answer struct {
	State
	now     time.Time
	request *x509.CertificateRequest
	next    *certificatesv1.CertificateSigningRequest
}

// is reports whether the request has a condition. (That it may be False is for failures only.)
func (a *answer) is(condition certificatesv1.RequestConditionType) bool {
	for _, c := range a.next.Status.Conditions {
		if c.Type == condition && (condition != certificatesv1.CertificateFailed || c.Status == "" || c.Status == corev1.ConditionTrue) {
			return true
		}
	}
	return false
}

func (a *answer) condition(of certificatesv1.RequestConditionType, reason, message string) {
	at := metav1.NewTime(a.now).Rfc3339Copy()
	a.next.Status.Conditions = append(a.next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: of, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastUpdateTime: at, LastTransitionTime: at,
	})
}

// approve approves what a node asks for to be known by: one that has a certificate already, or, where
// somebody has said so, one that has none yet. It reports whether it did.
func (a *answer) approve() bool {
	if len(a.next.Status.Certificate) > 0 || a.is(certificatesv1.CertificateApproved) || a.is(certificatesv1.CertificateDenied) ||
		a.next.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName ||
		!certificates.IsKubeletClientCSR(a.request, usages(a.next)) {
		return false
	}
	switch {
	case a.next.Spec.Username == a.request.Subject.CommonName && a.May("selfnodeclient"):
		a.condition(certificatesv1.CertificateApproved, "AutoApproved", "Auto approving self kubelet client certificate after SubjectAccessReview.")
	case a.May("nodeclient"):
		a.condition(certificatesv1.CertificateApproved, "AutoApproved", "Auto approving kubelet client certificate after SubjectAccessReview.")
	default:
		return false
	}
	return true
}

// sign signs what is approved, or says why not, and reports whether it did one of them. The requests of
// other signers are theirs.
func (a *answer) sign() bool {
	if len(a.next.Status.Certificate) > 0 || !a.is(certificatesv1.CertificateApproved) ||
		a.is(certificatesv1.CertificateDenied) || a.is(certificatesv1.CertificateFailed) {
		return false
	}
	ours, err := check(a.next, a.request)
	if !ours {
		return false
	}
	if err == nil {
		err = checkKey(a.request)
	}
	if err != nil {
		a.condition(certificatesv1.CertificateFailed, "SignerValidationFailure", err.Error())
		return true
	}
	signed, err := a.Sign(a.now, a.request, a.next.Spec.Usages, life(a.next.Spec.ExpirationSeconds))
	if err != nil { // the authority has ended
		a.condition(certificatesv1.CertificateFailed, "SigningError", err.Error())
		return true
	}
	a.next.Status.Certificate = signed
	return true
}

// check reports whether a request is for a signer of ours, and what keeps it from being signed.
func check(r *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) (ours bool, err error) {
	switch r.Spec.SignerName {
	case certificatesv1.KubeAPIServerClientSignerName:
		return true, checkClient(r.Spec.Usages)
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return true, certificates.ValidateKubeletClientCSR(request, usages(r))
	case certificatesv1.KubeletServingSignerName:
		return true, certificates.ValidateKubeletServingCSR(request, usages(r))
	}
	return false, nil
}

// longestKey is how many bits an RSA key may have: crypto/tls takes none that is longer. To check the
// signature of one as long as a request may be takes a processor an hour.
const longestKey = 8192

func checkKey(request *x509.CertificateRequest) error {
	if key, ok := request.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > longestKey {
		return fmt.Errorf("the public key has %d bits, more than %d", key.N.BitLen(), longestKey)
	}
	return nil
}

// checkClient: a client's certificate is good for nothing else. (validAPIServerClientUsages)
func checkClient(usages []certificatesv1.KeyUsage) error {
	client := false
	for _, usage := range usages {
		switch usage {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		case certificatesv1.UsageClientAuth:
			client = true
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", usage)
		}
	}
	if !client {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}

//lint:ignore SA1019 Kubernetes' checks take no other set
func usages(r *certificatesv1.CertificateSigningRequest) sets.String {
	all := sets.NewString()
	for _, usage := range r.Spec.Usages {
		all.Insert(string(usage))
	}
	return all
}

func life(seconds *int32) time.Duration {
	if seconds == nil {
		return longestLife
	}
	return max(shortestLife, min(longestLife, time.Duration(*seconds)*time.Second))
}
