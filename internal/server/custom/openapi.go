package custom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const documents = "/openapi/v3"

// describe has the library describe definitions, and what they define.
func describe(c *genericserver.Config) {
	namer := openapinamer.NewDefinitionNamer(apiserver.Scheme)
	c.OpenAPIConfig = genericserver.DefaultOpenAPIConfig(generatedopenapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIV3Config = genericserver.DefaultOpenAPIV3Config(generatedopenapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIConfig.Info.Title, c.OpenAPIV3Config.Info.Title = "Kubernetes", "Kubernetes"
}

// Documents are the OpenAPI documents (version 3) of this part of the API, by their paths:
// "apis/example.com/v1". Those of definitions are there as soon as there are any.
func (s *Server) Documents(r *http.Request) map[string]handler3.OpenAPIV3DiscoveryGroupVersion {
	own := "apis/" + apiextensionsv1.SchemeGroupVersion.String()
	index := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{own: {ServerRelativeURL: documents + "/" + own}}}
	if !s.Wanted() || s.Start() != nil {
		return index.Paths
	}
	cache.WaitForCacheSync(r.Context().Done(), s.synced)
	ask := r.Clone(r.Context())
	ask.URL.Path, ask.URL.RawQuery = documents, ""
	ask.Header = http.Header{"Accept": {"application/json"}}
	var answer kept
	s.handler.ServeHTTP(&answer, ask)
	_ = json.Unmarshal(answer.body.Bytes(), &index) // else what is known is known
	return index.Paths
}

// Swagger is the OpenAPI document (version 2) of this part of the API, with the tag of the library; nil
// as long as there are no definitions.
func (s *Server) Swagger() (*spec.Swagger, string, error) {
	if !s.Wanted() || s.Start() != nil {
		return nil, "", nil
	}
	cache.WaitForCacheSync(s.life.Done(), s.synced)
	s.swagger.Lock()
	defer s.swagger.Unlock()
	ask, err := http.NewRequestWithContext(s.life, http.MethodGet, "/openapi/v2", nil)
	if err != nil {
		return nil, "", err
	}
	ask.Header.Set("Accept", "application/json")
	ask.Header.Set("If-None-Match", s.swagger.tag)
	var answer kept
	s.handler.ServeHTTP(&answer, ask)
	switch answer.status {
	case http.StatusNotModified:
		return s.swagger.doc, s.swagger.tag, nil
	case http.StatusOK:
	default:
		return nil, "", fmt.Errorf("the OpenAPI document of custom resources: %s", http.StatusText(answer.status))
	}
	doc := &spec.Swagger{}
	if err := doc.UnmarshalJSON(answer.body.Bytes()); err != nil {
		return nil, "", fmt.Errorf("the OpenAPI document of custom resources: %w", err)
	}
	s.swagger.doc, s.swagger.tag = doc, answer.Header().Get("Etag")
	return s.swagger.doc, s.swagger.tag, nil
}

// swagger is the last Swagger.
type swagger struct {
	sync.Mutex
	doc *spec.Swagger
	tag string
}

// ServeDocument serves one of the Documents.
func (s *Server) ServeDocument(w http.ResponseWriter, r *http.Request) {
	if _, known := s.Documents(r)[strings.TrimPrefix(r.URL.Path, documents+"/")]; !known {
		http.NotFound(w, r)
		return
	}
	if err := s.Start(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// Types are those of the objects that definitions define in a version.
func (s *Server) Types(gv schema.GroupVersion) (managedfields.TypeConverter, error) {
	models, err := s.models(gv)
	if err != nil {
		return nil, err
	}
	return managedfields.NewTypeConverter(models, false)
}

const modelPrefix = "#/components/schemas/"

// Schema is the model of a kind that a definition makes, with all that it refers to.
func (s *Server) Schema(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	models, err := s.models(gvk.GroupVersion())
	if err != nil {
		return nil, err
	}
	for name, model := range models {
		var kinds []schema.GroupVersionKind
		if model.Extensions.GetObject("x-kubernetes-group-version-kind", &kinds) == nil && slices.Contains(kinds, gvk) {
			return resolver.PopulateRefs(func(ref string) (*spec.Schema, bool) {
				found, ok := models[strings.TrimPrefix(ref, modelPrefix)]
				return found, ok
			}, modelPrefix+name)
		}
	}
	return nil, fmt.Errorf("%s: %w", gvk, resolver.ErrSchemaNotFound)
}

// models describe the objects that definitions define in a version.
func (s *Server) models(gv schema.GroupVersion) (map[string]*spec.Schema, error) {
	if err := s.Start(); err != nil {
		return nil, err
	}
	cache.WaitForCacheSync(s.life.Done(), s.synced)
	ask, err := http.NewRequestWithContext(s.life, http.MethodGet, documents+"/apis/"+gv.String(), nil)
	if err != nil {
		return nil, err
	}
	ask.Header.Set("Accept", "application/json")
	var answer kept
	s.handler.ServeHTTP(&answer, ask)
	var doc spec3.OpenAPI
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("failed to get schema for %v: %s", gv, http.StatusText(answer.status))
	}
	if err := json.Unmarshal(answer.body.Bytes(), &doc); err != nil {
		return nil, fmt.Errorf("failed to unmarshal schema for %v: %w", gv, err)
	}
	if doc.Components == nil {
		return nil, fmt.Errorf("the schema for %v has no types", gv)
	}
	return doc.Components.Schemas, nil
}

// kept is an answer that is read here.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header {
	if k.header == nil {
		k.header = http.Header{}
	}
	return k.header
}
func (k *kept) WriteHeader(status int) { k.status = status }
func (k *kept) Write(p []byte) (int, error) {
	if k.status == 0 {
		k.status = http.StatusOK
	}
	return k.body.Write(p)
}
