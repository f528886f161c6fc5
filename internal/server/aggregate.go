package server

import (
	"maps"
	"net/http"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/kube-openapi/pkg/handler3"

	"github.com/sampan-batch/sampan/internal/server/aggregate"
)

// newAggregate returns the part of the API that other servers answer.
func (s *Server) newAggregate(shared *shared) *aggregate.Server {
	return aggregate.New(aggregate.Options{
		Store: s.o.Store, Services: shared.services, Now: s.o.Now, Logger: s.o.Logger,
		Certificate: func() (cert, key []byte, err error) {
			pair, err := s.certs.frontProxy()
			if err != nil {
				return nil, nil, err
			}
			return pair.client.certPEM, pair.client.keyPEM, nil
		},
		Local: func(r *http.Request) ([]metav1.APIGroup, error) {
			if err := s.late.install(); err != nil {
				return nil, err
			}
			return s.generic.DiscoveryGroupManager.Groups(r.Context(), r)
		},
		Own:        s.scheme.IsGroupRegistered,
		Groups:     s.generic.DiscoveryGroupManager,
		Discovery:  s.generic.AggregatedDiscoveryGroupManager.WithSource(aggregated.AggregatorSource),
		Serializer: s.generic.Serializer,
		Bounds:     tooMuchToDescribe,
	})
}

// Others are the other servers that answer for a part of the API, for who deletes what they keep.
func (s *Server) Others() *aggregate.Server { return s.others }

// aggregated has other servers answer what is theirs. They are known when the chain is in use.
func (s *Server) aggregated(next http.Handler) http.Handler {
	handler := sync.OnceValue(func() http.Handler { return s.others.Handler(next) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler().ServeHTTP(w, r) })
}

// furthers describe several parts of the API; what none of them knows is the last one's.
type furthers []further

// Documents implements further.
func (f furthers) Documents(r *http.Request) map[string]handler3.OpenAPIV3DiscoveryGroupVersion {
	all := map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}
	for _, one := range f {
		maps.Copy(all, one.Documents(r))
	}
	return all
}

// ServeDocument implements further.
func (f furthers) ServeDocument(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path[len("/openapi/v3/"):]
	for _, one := range f[:len(f)-1] {
		if _, ok := one.Documents(r)[path]; ok {
			one.ServeDocument(w, r)
			return
		}
	}
	f[len(f)-1].ServeDocument(w, r)
}
