package server

import (
	"net/http"

	genericserver "k8s.io/apiserver/pkg/server"

	"github.com/sampan-batch/sampan/internal/server/custom"
)

// serveCustom serves what no row does: what CustomResourceDefinitions define.
// Its library decodes what is written by itself.
func (s *Server) serveCustom(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		boundBody(r)
	}
	s.custom.ServeHTTP(w, r)
}

// newCustom returns the part of the API for custom resources.
func (s *Server) newCustom(shared *shared) *custom.Server {
	config := genericserver.NewConfig(custom.Codecs())
	config.ExternalAddress = s.Addr()
	config.LoopbackClientConfig = s.LoopbackConfig()
	config.EffectiveVersion = newEffectiveVersion(s.o.Version)
	config.Authorization.Authorizer = s.gate
	config.AggregatedDiscoveryGroupManager = s.generic.AggregatedDiscoveryGroupManager
	config.BuildHandlerChainFunc = func(h http.Handler, _ *genericserver.Config) http.Handler { return h } // ours has done it
	return custom.New(s.stopping, custom.Options{
		Store: s.o.Store, Kinds: s.o.Kinds, Commit: shared.commit,
		Pin: shared.views.pin, At: shared.views.at, Expired: continueExpired,
		Services: shared.services,
		Config:   config, Groups: s.generic.DiscoveryGroupManager, Own: s.scheme.IsGroupRegistered,
	})
}
