package identity

import (
	"crypto/ecdsa"
	"fmt"
	"net"
	"strings"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/kubernetes/pkg/routes"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/sampan-batch/sampan/internal/kind"
)

// InstallDiscovery serves what others verify tokens by (OpenID Connect discovery):
// /.well-known/openid-configuration and /openid/v1/jwks. address is the API's host:port. It may be
// one that pods do not reach: who asks by a name that the API has in the cluster is sent on to that.
func InstallDiscovery(container *restful.Container, key *ecdsa.PublicKey, address string) error {
	keys, err := serviceaccount.StaticPublicKeysGetter([]any{key})
	if err != nil {
		return fmt.Errorf("discovery of the token issuer: %w", err)
	}
	documents, err := serviceaccount.NewOpenIDMetadataProvider(IssuerURL, "", address, keys)
	if err != nil {
		return fmt.Errorf("discovery of the token issuer: %w", err)
	}
	inside, err := serviceaccount.NewOpenIDMetadataProvider(IssuerURL, IssuerURL+serviceaccount.JWKSPath, address, keys)
	if err != nil {
		return fmt.Errorf("discovery of the token issuer: %w", err)
	}
	routes.NewOpenIDMetadataServer(documents).Install(container)
	toPods := restful.NewContainer()
	routes.NewOpenIDMetadataServer(inside).Install(toPods)
	for _, ws := range container.RegisteredWebServices() {
		if ws.RootPath() != serviceaccount.OpenIDConfigPath {
			continue
		}
		ws.Filter(func(req *restful.Request, resp *restful.Response, next *restful.FilterChain) {
			if inCluster(req.Request.Host) {
				toPods.ServeHTTP(resp.ResponseWriter, req.Request)
				return
			}
			next.ProcessFilter(req, resp)
		})
	}
	return nil
}

// inCluster reports whether host, with or without a port, is a name that the API has for pods: that
// of its Service, as far as anyone writes it out, or its address.
func inCluster(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	full := strings.TrimPrefix(IssuerURL, "https://")
	return host == kind.ServiceRange.Addr().Next().String() || host != "" && (host == full || strings.HasPrefix(full, host+"."))
}
