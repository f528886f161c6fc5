package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/utils/lru"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/identity"
)

// publicPaths answer anybody: what a load balancer or a curious client asks
// before it has credentials.
func publicPaths() []string { return []string{"/healthz", "/livez", "/readyz", "/version"} }

// identities are how the server knows its clients, and what it gives them to be known by.
type identities struct {
	// who accepts client certificates of the server's own authority, tokens of ServiceAccounts
	// and those of a file, and nobody else but for the public paths.
	who authenticator.Request
	// bearer accepts the same tokens, and nothing else: for reviews of them.
	bearer authenticator.Request
	tokens *identity.Issuer
	// key is what tokens are verified by.
	key *ecdsa.PublicKey
}

// tokenKeyFile is the key of ServiceAccounts' tokens, in the directory of certificates.
const tokenKeyFile = "sa.key"

func newIdentities(o *Options, ca *x509.Certificate) (*identities, error) {
	private, err := identity.LoadKey(filepath.Join(o.CertDir, tokenKeyFile))
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	ids := &identities{key: &private.PublicKey}
	if ids.tokens, err = identity.NewIssuer(private, o.Now); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	accounts, err := identity.NewAuthenticator(ids.key, func() kind.Getter { return o.Store.View() }, labelSecret(o.Store))
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if o.TokenFile != "" {
		static, err := identity.LoadTokens(o.TokenFile)
		if err != nil {
			return nil, err
		}
		accounts = tokenunion.New(static, accounts)
	}
	ids.who, ids.bearer = newAuthenticator(ca, accounts), newBearer(accounts)
	return ids, nil
}

// newAuthenticator accepts client certificates that ca has signed, and tokens that tokens knows. Who
// shows one that is not good is nobody, not even on the public paths.
func newAuthenticator(ca *x509.Certificate, tokens authenticator.Token) authenticator.Request {
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
	return union.NewFailOnError(
		group.NewAuthenticatedGroupAdder(union.New(certificate, bearertoken.New(tokens), websocket.NewProtocolAuthenticator(tokens))),
		anonymous.NewAuthenticator(public),
	)
}

// newBearer accepts what tokens knows, for requests that have nothing but a token: a review says what a
// request would be answered. The first of the two knows none; it stands where kube-apiserver asks for its
// own token first, and says the same of others.
func newBearer(tokens authenticator.Token) authenticator.Request {
	none := authenticator.TokenFunc(func(context.Context, string) (*authenticator.Response, bool, error) { return nil, false, nil })
	return union.New(bearertoken.New(none), group.NewAuthenticatedGroupAdder(bearertoken.New(tokens)))
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
