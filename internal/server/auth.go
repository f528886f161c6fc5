package server

import (
	"crypto/sha256"
	"crypto/x509"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/union"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/utils/lru"
)

// publicPaths answer anybody: what a load balancer or a curious client asks
// before it has credentials.
func publicPaths() []string { return []string{"/healthz", "/livez", "/readyz", "/version"} }

// newAuthenticator accepts client certificates that ca has signed, and nobody
// else but for the public paths.
func newAuthenticator(ca *x509.Certificate) authenticator.Request {
	options := x509request.DefaultVerifyOptions()
	options.Roots = x509.NewCertPool()
	options.Roots.AddCert(ca)
	certificate := &certCache{
		verify: x509request.New(options, x509request.CommonNameUserConversion),
		known:  lru.New(1024),
	}
	var public []apiserver.AnonymousAuthCondition
	for _, p := range publicPaths() {
		public = append(public, apiserver.AnonymousAuthCondition{Path: p})
	}
	return union.New(
		group.NewAuthenticatedGroupAdder(certificate),
		anonymous.NewAuthenticator(public),
	)
}

// certCache remembers the outcome for certificates that were accepted.
// Verifying one takes an ECDSA verification per request, although a connection
// presents the same certificate for its whole life.
type certCache struct {
	verify authenticator.Request
	known  *lru.Cache // sha256 of the certificate → knownCert
}

type knownCert struct {
	response *authenticator.Response
	notAfter time.Time
}

func (c *certCache) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	leaf := req.TLS.PeerCertificates[0]
	id := sha256.Sum256(leaf.Raw)
	if hit, ok := c.known.Get(id); ok {
		if known := hit.(knownCert); time.Now().Before(known.notAfter) {
			return known.response, true, nil
		}
	}
	response, ok, err := c.verify.AuthenticateRequest(req)
	if ok && err == nil {
		c.known.Add(id, knownCert{response: response, notAfter: leaf.NotAfter})
	}
	return response, ok, err
}
