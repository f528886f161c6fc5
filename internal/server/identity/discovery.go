package identity

import (
	"crypto/ecdsa"
	"fmt"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/kubernetes/pkg/routes"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// InstallDiscovery serves what others verify tokens by (OpenID Connect discovery):
// /.well-known/openid-configuration and /openid/v1/jwks. address is the API's host:port.
func InstallDiscovery(container *restful.Container, key *ecdsa.PublicKey, address string) error {
	keys, err := serviceaccount.StaticPublicKeysGetter([]any{key})
	if err != nil {
		return fmt.Errorf("discovery of the token issuer: %w", err)
	}
	documents, err := serviceaccount.NewOpenIDMetadataProvider(IssuerURL, "", address, keys)
	if err != nil {
		return fmt.Errorf("discovery of the token issuer: %w", err)
	}
	routes.NewOpenIDMetadataServer(documents).Install(container)
	return nil
}
