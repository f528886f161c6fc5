package aggregate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// What other servers serve is described by them, in OpenAPI documents: in version 3 those are passed on as
// they are, one for each of their versions. In version 2 there is one of all that a server has; it is
// fetched when somebody asks for it, and what it says of the version merged with the documents of others.
// For a server that has no version 3 it is made of version 2. Who is not available is left out.

const (
	documents = "/openapi/v3/"
	swaggers  = "/openapi/v2"
)

// description is what a server says of its part of the API in version 2; doc is nil if it says nothing.
type description struct {
	mu  sync.Mutex // held while the server is asked
	at  time.Time  // when it was
	doc *spec.Swagger
	tag string
}

// describe returns the description of the server, which is asked once in a while at most.
func (r *remote) describe(ctx context.Context) (doc *spec.Swagger, tag string) {
	d := &r.description
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.at.IsZero() && r.Now().Sub(d.at) < every {
		return d.doc, d.tag
	}
	err := r.ask(ctx, swaggers, func(_ string, body []byte) error {
		sum := sha256.Sum256(body)
		tag := strings.ToUpper(hex.EncodeToString(sum[:]))
		if tag == d.tag {
			return nil
		}
		all := &spec.Swagger{}
		if err := all.UnmarshalJSON(body); err != nil {
			return err
		}
		d.doc, d.tag = aggregator.FilterSpecByPathsWithoutSideEffects(all, []string{r.root() + "/"}), tag
		return nil
	}, "application/json")
	if ctx.Err() != nil {
		return d.doc, d.tag // who has left is not the server's fault
	}
	if d.at = r.Now(); err != nil {
		r.Logger.Debug("an API does not describe itself", "name", r.name, "err", err)
		d.doc, d.tag = nil, ""
	}
	return d.doc, d.tag
}

// available are the servers that are there, the preferred version of a group first.
func (s *Server) available() []*remote {
	var all []*remote
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, api := range elsewhere(s.Store.View()) {
		if r := s.remotes[api.Name]; r != nil && r.fresh {
			all = append(all, r)
		}
	}
	return all
}

// merged is the last Swagger.
type merged struct {
	sync.Mutex
	doc *spec.Swagger
	tag string
}

// Swagger is the OpenAPI document (version 2) of what other servers serve, with a tag that another one has
// not; nil if none says anything.
func (s *Server) Swagger() (*spec.Swagger, string, error) {
	s.merged.Lock()
	defer s.merged.Unlock()
	var docs []*spec.Swagger
	all := ""
	for _, r := range s.available() {
		if doc, tag := r.describe(context.Background()); doc != nil {
			docs, all = append(docs, doc), all+tag
		}
	}
	if all == s.merged.tag {
		return s.merged.doc, s.merged.tag, nil
	}
	s.merged.doc, s.merged.tag = nil, all
	for _, doc := range docs {
		if s.merged.doc == nil {
			s.merged.doc = &spec.Swagger{}
		}
		if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(s.merged.doc, doc); err != nil {
			s.Logger.Debug("what an API says of itself does not go with others", "err", err)
		}
	}
	return s.merged.doc, s.merged.tag, nil
}

// Documents are the OpenAPI documents (version 3) of other servers, by their paths.
func (s *Server) Documents(r *http.Request) map[string]handler3.OpenAPIV3DiscoveryGroupVersion {
	all := map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}
	for _, one := range s.available() {
		index, path := one.index()
		if index.ServerRelativeURL == "" { // it has no version 3
			if doc, tag := one.describe(r.Context()); doc != nil {
				index.ServerRelativeURL = documents + path + "?hash=" + tag
			}
		}
		if index.ServerRelativeURL != "" {
			all[path] = index
		}
	}
	return all
}

// index says where the server has its document of version 3, and by what path it is known.
func (r *remote) index() (where handler3.OpenAPIV3DiscoveryGroupVersion, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.document, strings.TrimPrefix(r.root(), "/")
}

// ServeDocument serves one of the Documents, as its server tells it.
func (s *Server) ServeDocument(w http.ResponseWriter, r *http.Request) {
	wanted := strings.TrimPrefix(r.URL.Path, documents)
	for _, one := range s.available() {
		index, path := one.index()
		if path != wanted {
			continue
		}
		if index.ServerRelativeURL != "" {
			s.forward(w, r, &one.spec, aggregatorUser)
			return
		}
		if doc, _ := one.describe(r.Context()); doc != nil {
			serveConverted(w, r, path, doc)
			return
		}
	}
	http.NotFound(w, r)
}

// serveConverted serves a document of version 2 as one of version 3.
func serveConverted(w http.ResponseWriter, r *http.Request, path string, doc *spec.Swagger) {
	service := handler3.NewOpenAPIService()
	service.UpdateGroupVersion(path, openapiconv.ConvertV2ToV3(doc))
	plain := *r.URL // the library compares the hash to one of its own
	plain.RawQuery = ""
	clone := r.Clone(r.Context())
	clone.URL = &plain
	service.HandleGroupVersion(w, clone)
}
