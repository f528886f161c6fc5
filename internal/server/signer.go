package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kubernetes/pkg/certauthorization"
	"k8s.io/kubernetes/pkg/controller/certificates/authority"

	"github.com/sampan-batch/sampan/internal/change"
)

// maySign refuses what takes the right to do something in the name of a signer, where the user does not
// have it. (CertificateApproval, CertificateSigning, ClusterTrustBundleAttest)
func (u *update) maySign(ctx context.Context, obj, old change.Object) error {
	verb, signer := u.rules.Signer(obj, old)
	return u.mayUse(ctx, verb, signer, obj.GetName())
}

// mayUse refuses a write of the object name, unless the user may do what verb says in the name of signer.
func (r *resource) mayUse(ctx context.Context, verb, signer, name string) error {
	if verb == "" || signer == "" {
		return nil
	}
	user, _ := genericapirequest.UserFrom(ctx)
	if certauthorization.IsAuthorizedForSignerName(ctx, r.gate, user, verb, signer) {
		return nil
	}
	to := verb + " requests with"
	if verb == "attest" { // a trust bundle is no request
		to = verb + " for"
	}
	return apierrors.NewForbidden(r.gr, name, fmt.Errorf("user not permitted to %s signerName %q", to, signer))
}

// SignCertificate signs a request with the authority that clients and nodes are known by. The
// certificate, PEM, begins a little earlier than now, for clocks that go behind.
func (s *Server) SignCertificate(now time.Time, request *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error) {
	ca := authority.CertificateAuthority{Certificate: s.certs.ca.cert, PrivateKey: s.certs.ca.key}
	der, err := ca.Sign(request.Raw, authority.PermissiveSigningPolicy{
		TTL: life, Usages: usages, Backdate: 5 * time.Minute, Short: 8 * time.Hour, // as kube-controller-manager has it
		Now: func() time.Time { return now },
	})
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %q: %w", request.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
