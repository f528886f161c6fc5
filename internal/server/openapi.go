package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/sampan-batch/sampan/internal/kind"
)

// openAPI describes the API: /openapi/v2 and /openapi/v3 for clients, and the
// types for server-side apply. All of it is built at the first question and
// kept; a start pays nothing.
type openAPI struct {
	scheme    *runtime.Scheme
	rows      []*kind.Kind
	container *restful.Container
	v3        *handler3.OpenAPIService
	paths     []string // "apis/batch/v1", …
	further   further
	// added is what others add to /openapi/v2, each with a tag that another document has not; nil: nothing.
	added     []func() (doc *spec.Swagger, tag string, err error)
	hash      func() string
	typesOnce func() (managedfields.TypeConverter, error)
}

// further describes a part of the API that may change while it is served.
type further interface {
	Documents(r *http.Request) map[string]handler3.OpenAPIV3DiscoveryGroupVersion
	ServeDocument(w http.ResponseWriter, r *http.Request)
}

func newOpenAPI(scheme *runtime.Scheme, rows []*kind.Kind, container *restful.Container) *openAPI {
	o := &openAPI{scheme: scheme, rows: rows, container: container, v3: handler3.NewOpenAPIService()}
	o.hash = sync.OnceValue(buildHash)
	o.typesOnce = sync.OnceValues(o.buildTypes)
	return o
}

// addGroupVersion describes the web service under path, "apis/batch/v1".
func (o *openAPI) addGroupVersion(path string) {
	o.paths = append(o.paths, path)
	o.v3.UpdateGroupVersionLazy(path, cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
		doc, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(o.services(path)), o.v3Config())
		return doc, o.hash(), err
	})))
}

// services returns the web services under path, or all of them for "".
func (o *openAPI) services(path string) []*restful.WebService {
	var found []*restful.WebService
	for _, ws := range o.container.RegisteredWebServices() {
		if path == "" || ws.RootPath() == "/"+path {
			found = append(found, ws)
		}
	}
	return found
}

// install serves the documents.
func (o *openAPI) install(m *mux.PathRecorderMux) {
	handler.NewOpenAPIServiceLazy(o.swagger()).RegisterOpenAPIVersionedService("/openapi/v2", m)
	m.HandleFunc("/openapi/v3", o.serveIndex)
	m.HandlePrefix("/openapi/v3/", http.HandlerFunc(o.serveGroupVersion))
}

// serveIndex lists the documents of version 3. The library's own index names
// each by the hash of its content, and so has to build all of them first; the
// content only changes with this program.
func (o *openAPI) serveIndex(w http.ResponseWriter, r *http.Request) {
	index := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	query := "?hash=" + url.QueryEscape(o.hash())
	for _, p := range o.paths {
		index.Paths[p] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: "/openapi/v3/" + p + query}
	}
	maps.Copy(index.Paths, o.further.Documents(r))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(index) // an error is the client's who left
}

func (o *openAPI) serveGroupVersion(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(o.paths, strings.TrimPrefix(r.URL.Path, "/openapi/v3/")) {
		o.further.ServeDocument(w, r)
		return
	}
	if r.URL.Query().Get("hash") == o.hash() {
		w.Header().Set("Cache-Control", "public, immutable")
	}
	// The library compares the hash to one of its own.
	plain := *r.URL
	plain.RawQuery = ""
	clone := r.Clone(r.Context())
	clone.URL = &plain
	o.v3.HandleGroupVersion(w, clone)
}

// buildHash tells this build of the program from another.
func buildHash() string {
	h := sha256.New()
	if info, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprint(h, info)
	}
	// A build from a changed work tree has the same build info as another one.
	if path, err := os.Executable(); err == nil {
		if st, err := os.Stat(path); err == nil {
			fmt.Fprint(h, st.Size(), st.ModTime().UnixNano())
		}
	}
	return strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
}

func (o *openAPI) info() *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "v" + kubernetesPatch}}
}

func (o *openAPI) v2Config() *common.Config {
	return &common.Config{
		ProtocolList: []string{"https"},
		Info:         o.info(),
		DefaultResponse: &spec.Response{
			ResponseProps: spec.ResponseProps{Description: "Default Response."},
		},
		//lint:ignore SA1019 what replaces it is not in k8s.io/apiserver yet
		GetOperationIDAndTags: apiopenapi.GetOperationIDAndTags,
		GetDefinitionName:     o.namer(),
		GetDefinitions:        o.definitions,
	}
}

func (o *openAPI) v3Config() *common.OpenAPIV3Config {
	return &common.OpenAPIV3Config{
		Info: o.info(),
		DefaultResponse: &spec3.Response{
			ResponseProps: spec3.ResponseProps{Description: "Default Response."},
		},
		//lint:ignore SA1019 what replaces it is not in k8s.io/apiserver yet
		GetOperationIDAndTags: apiopenapi.GetOperationIDAndTags,
		GetDefinitionName:     o.namer(),
		GetDefinitions:        o.definitions,
	}
}

// namer returns the function that gives a definition its name, and the group,
// version and kinds that it stands for. (The library's would name the internal
// versions too, which here have the same Go types.)
func (o *openAPI) namer() func(name string) (string, spec.Extensions) {
	type model struct {
		name string
		gvks []any
	}
	models := map[string]*model{} // by how the definitions name the type
	known := make([]schema.GroupVersionKind, 0, 256)
	for gvk := range o.scheme.AllKnownTypes() {
		if gvk.Version != runtime.APIVersionInternal {
			known = append(known, gvk)
		}
	}
	slices.SortFunc(known, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	for _, gvk := range known {
		obj, err := o.scheme.New(gvk)
		if err != nil {
			continue
		}
		name, err := o.scheme.ToOpenAPIDefinitionName(gvk)
		if err != nil {
			continue // not a type that is described
		}
		defined := util.GetCanonicalTypeName(obj)
		if models[defined] == nil {
			models[defined] = &model{name: name}
		}
		models[defined].gvks = append(models[defined].gvks, map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind})
	}
	return func(defined string) (string, spec.Extensions) {
		if m := models[defined]; m != nil {
			return m.name, spec.Extensions{"x-kubernetes-group-version-kind": m.gvks}
		}
		return defined, nil
	}
}

// buildTypes makes the models of all types that a request can be about for
// server-side apply: those of the rows, and those that subresources take.
func (o *openAPI) buildTypes() (managedfields.TypeConverter, error) {
	described := o.definitions(func(name string) spec.Ref { return spec.Ref{} })
	var names []string
	for gvk := range o.scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal || strings.HasSuffix(gvk.Kind, "List") {
			continue
		}
		if name := o.modelName(gvk); described[name].Schema.Type != nil && !strings.HasPrefix(name, "io.k8s.apimachinery.") {
			names = append(names, name)
		}
	}
	models, err := builder3.BuildOpenAPIDefinitionsForResources(o.v3Config(), names...)
	if err != nil {
		return nil, fmt.Errorf("build models: %w", err)
	}
	return managedfields.NewTypeConverter(models, false)
}

// converter returns the type converter, which is built when it is first used.
func (o *openAPI) converter() managedfields.TypeConverter { return lazyTypes{o.typesOnce} }

type lazyTypes struct {
	build func() (managedfields.TypeConverter, error)
}

func (l lazyTypes) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	c, err := l.build()
	if err != nil {
		return nil, err
	}
	return c.ObjectToTyped(obj, opts...)
}

func (l lazyTypes) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	c, err := l.build()
	if err != nil {
		return nil, err
	}
	return c.TypedToObject(v)
}
