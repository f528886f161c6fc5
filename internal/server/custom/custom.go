// Package custom serves CustomResourceDefinitions and the objects that they define, by
// Kubernetes' own apiextensions-apiserver over our store (docs/adr/0012).
//
// It costs nothing until somebody asks for it, or there are definitions: then the library's
// server is made, with its controllers, which are clients of our API like any other. The
// library reads and writes through objects (storage.go, watch.go), which are those of the
// store: one line of revisions, one set of guards, and for the controllers of this engine
// objects like any others, by the row that each definition adds to the catalogue.
package custom

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/registry/generic"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/backend"
	"github.com/sampan-batch/sampan/internal/store"
)

// Options are what the API has that this is a part of. All are required.
type Options struct {
	Store *store.Store
	Kinds *kind.Kinds
	// Commit applies a set: its error is one of the API, or a *store.ConflictError.
	Commit func(ctx context.Context, set change.Set) (store.Result, error)
	// Pin keeps a state for the next page of a list, At returns one that was kept, and
	// Expired the error when it is not.
	Pin     func(*store.View)
	At      func(rev uint64) *store.View
	Expired func(from string) error
	// Services are how webhooks that convert are reached.
	Services *backend.Services
	// Config is that of the library's server, from what the API's own has.
	Config *genericserver.Config
	// Groups are those that /apis lists.
	Groups discovery.GroupManager
	// Own reports whether a group is of this program, whoever defines kinds in it.
	Own func(group string) bool
}

// Server is the part of the API under /apis that definitions make. It is a handler for
// what the API itself does not serve.
type Server struct {
	Options
	life    context.Context // of what it starts
	make    sync.Once
	made    chan struct{} // closed when handler or err is set
	err     error
	handler http.Handler
	lister  listers.CustomResourceDefinitionLister
	synced  func() bool
	swagger swagger
}

// New returns the server; nothing of it runs before it is used. What it starts ends with life.
func New(life context.Context, o Options) *Server {
	s := &Server{Options: o, life: life, made: make(chan struct{})}
	s.Groups.AddGroup(ownGroup)
	s.Config.AggregatedDiscoveryGroupManager.AddGroupVersion(apiextensionsv1.GroupName, ownVersion)
	return s
}

// ownVersion is what there is to discover before the library's server says it.
var ownVersion = func() apidiscoveryv2.APIVersionDiscovery {
	row := kind.CustomResourceDefinition()
	of := metav1.GroupVersionKind(row.GVK)
	return apidiscoveryv2.APIVersionDiscovery{Version: row.GVK.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Resources: []apidiscoveryv2.APIResourceDiscovery{{
		Resource: row.Plural(), SingularResource: row.Singular, ShortNames: row.ShortNames, Categories: row.Categories,
		Scope: apidiscoveryv2.ScopeCluster, ResponseKind: &of,
		Verbs:        []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		Subresources: []apidiscoveryv2.APISubresourceDiscovery{{Subresource: "status", ResponseKind: &of, Verbs: []string{"get", "patch", "update"}}},
	}}}
}()

const ownPath = "/apis/" + apiextensionsv1.GroupName

var ownGroup = func() metav1.APIGroup {
	version := metav1.GroupVersionForDiscovery{GroupVersion: apiextensionsv1.SchemeGroupVersion.String(), Version: "v1"}
	return metav1.APIGroup{Name: apiextensionsv1.GroupName, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version}
}()

// Define adds the rows of the definitions that a store has to the catalogue, and has the
// store read their objects.
func Define(kinds *kind.Kinds, st *store.Store) error {
	found := false
	for definition := range st.View().List(kind.CustomResourceDefinitions, "") {
		if k := kind.Custom(definition); k != nil && kinds.Define(k) == nil {
			found = true
		}
	}
	if !found {
		return nil
	}
	_, err := st.Adopt()
	return err
}

// Wanted reports whether there are definitions, so that clients may want what they define.
func (s *Server) Wanted() bool { return s.Store.View().Len(kind.CustomResourceDefinitions) > 0 }

// Start makes the server, which takes some 30 ms, unless that was done.
func (s *Server) Start() error {
	s.make.Do(func() {
		defer close(s.made)
		s.err = s.build()
	})
	<-s.made
	return s.err
}

// patience is how long Await waits.
const patience = 5 * time.Second

// Await starts the server, and returns when clients can discover what the definitions
// define. Whatever keeps it from that is told to those who ask.
func (s *Server) Await(ctx context.Context) {
	if s.Start() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "/healthz/poststarthook/start-apiextensions-controllers", nil)
		if err != nil {
			return
		}
		var answer kept
		if s.handler.ServeHTTP(&answer, ask); answer.status == http.StatusOK {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// ServeHTTP implements http.Handler, behind the API's own filters.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	own := r.URL.Path == ownPath || strings.HasPrefix(r.URL.Path, ownPath+"/")
	if !own && (!strings.HasPrefix(r.URL.Path, "/apis/") || !s.Wanted()) {
		http.NotFound(w, r)
		return
	}
	if err := s.Start(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if !own { // the library's own controllers ask for definitions before it knows any
		cache.WaitForCacheSync(r.Context().Done(), s.synced)
	}
	s.handler.ServeHTTP(w, r)
}

func (s *Server) build() error {
	s.Config.RESTOptionsGetter = s
	describe(s.Config)
	if s.Config.AdmissionControl == nil {
		s.Config.AdmissionControl = admission.NewHandler() // of a definition that is deleted the library asks it without a look
	}
	s.Config.MergedResourceConfig = apiserver.DefaultAPIResourceConfigSource()
	config := apiserver.Config{
		GenericConfig: &genericserver.RecommendedConfig{Config: *s.Config},
		ExtraConfig:   apiserver.ExtraConfig{CRDRESTOptionsGetter: s, MasterCount: 1, AuthResolverWrapper: s.Services.Wrap, ServiceResolver: s.Services},
	}
	notFound := genericserver.NewEmptyDelegateWithCustomHandler(http.NotFoundHandler())
	server, err := config.Complete().New(notFound)
	if err != nil {
		return fmt.Errorf("custom resources: %w", err)
	}
	informer := server.Informers.Apiextensions().V1().CustomResourceDefinitions()
	s.lister, s.synced = informer.Lister(), informer.Informer().HasSynced
	if _, err := informer.Informer().AddEventHandler(s.groupsHandler()); err != nil {
		return err
	}
	server.GenericAPIServer.PrepareRun()
	s.handler = server.GenericAPIServer.UnprotectedHandler()
	go server.GenericAPIServer.RunPostStartHooks(s.life)
	return nil
}

// GetRESTOptions implements generic.RESTOptionsGetter: how the objects of a resource are stored.
func (s *Server) GetRESTOptions(group schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	resource := change.Resource(group.String())
	config := storagebackend.Config{Codec: apiserver.Codecs.LegacyCodec(apiextensionsv1.SchemeGroupVersion)}
	if resource != kind.CustomResourceDefinitions {
		if err := s.define(group.String()); err != nil {
			return generic.RESTOptions{}, err
		}
		config.Codec = unstructured.UnstructuredJSONScheme // the library makes one of it that knows versions and schemas
	}
	return generic.RESTOptions{
		StorageConfig: config.ForResource(group),
		Decorator: func(config *storagebackend.ConfigForResource, _ string, _ func(runtime.Object) (string, error), makeOne, _ func() runtime.Object,
			_ storage.AttrFunc, _ storage.IndexerFuncs, _ *cache.Indexers) (storage.Interface, factory.DestroyFunc, error) {
			return &objects{Server: s, group: group, codec: config.Codec, makeOne: makeOne, resource: resource}, func() {}, nil
		},
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 1,
		ResourcePrefix:          group.String(),
	}, nil
}

// define adds the row of a definition to the catalogue, as it is now. The library, which asks
// when it has seen that a definition is served, may not have seen yet that it is no more: then
// there is no such resource.
func (s *Server) define(name string) error {
	notFound := apierrors.NewNotFound(schema.ParseGroupResource(string(kind.CustomResourceDefinitions)), name)
	definition, ok := s.Store.View().Get(kind.CustomResourceDefinitions.Key("", name))
	if !ok {
		return notFound
	}
	k := kind.Custom(definition)
	if k == nil {
		return notFound
	}
	if err := s.Kinds.Define(k); err != nil {
		return err
	}
	_, err := s.Store.Adopt()
	return err
}

// Codecs are those of definitions.
func Codecs() serializer.CodecFactory { return apiserver.Codecs }
