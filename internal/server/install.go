package server

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	utilwaitgroup "k8s.io/apimachinery/pkg/util/waitgroup"
	"k8s.io/apimachinery/pkg/version"
	k8sadmission "k8s.io/apiserver/pkg/admission"
	genericapi "k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	genericserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	basecompatibility "k8s.io/component-base/compatibility"
	baseversion "k8s.io/component-base/version"
	"k8s.io/kube-openapi/pkg/validation/spec"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/identity"
	"github.com/sampan-batch/sampan/internal/server/review"
)

// kubernetesPatch is the release of the Kubernetes libraries underneath; what
// /version says, so that clients know what to expect.
const kubernetesPatch = "1.37.2"

// install makes the GenericAPIServer and installs every row's resources.
func (s *Server) install() error {
	var err error
	if s.scheme, err = kind.NewScheme(s.o.Kinds.All()); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if err := s.addReviewTypes(); err != nil {
		return err
	}
	if err := metricsv1beta1.AddToScheme(s.scheme); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	codecs := serializer.NewCodecFactory(s.scheme,
		serializer.WithStreamingCollectionEncodingToJSON(),
		serializer.WithStreamingCollectionEncodingToProtobuf())
	var docs *openAPI
	var groups, rare []*genericserver.APIGroupInfo
	s.late = newLate(kind.Ours(s.o.Kinds.All()), review.GroupVersions(), func() error {
		return errors.Join(s.installGroups(rare, docs), s.installReviews(docs))
	})
	config := s.config(codecs)
	s.requests, s.watches = config.NonLongRunningRequestWaitGroup, new(utilwaitgroup.SafeWaitGroup)
	unknown := genericserver.NewEmptyDelegateWithCustomHandler(http.HandlerFunc(s.serveCustom))
	generic, err := config.Complete(nil).New("sampan", unknown)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.generic = generic

	docs = newOpenAPI(s.scheme, kind.Ours(s.o.Kinds.All()), generic.Handler.GoRestfulContainer)
	shared := newShared(s)
	s.custom = s.newCustom(shared)
	s.others = s.newAggregate(shared)
	docs.further = furthers{s.others, s.custom}
	docs.added = []func() (*spec.Swagger, string, error){s.custom.Swagger, s.others.Swagger}
	s.judge = s.newJudge(shared, docs)
	s.admission = k8sadmission.NewChainHandler(lifecycle{shared}, s.judge)
	if s.o.unjudged {
		s.admission = k8sadmission.NewHandler()
	}
	s.custom.Config.AdmissionControl = s.admission
	all, err := s.groups(shared, codecs)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	groups, rare = s.late.split(all)
	if err := s.installGroups(groups, docs); err != nil {
		return err
	}
	docs.install(generic.Handler.NonGoRestfulMux)
	if s.o.Backup != nil {
		generic.Handler.NonGoRestfulMux.Handle(BackupPath, newBackups(&s.o))
	}
	if s.o.Machine != nil {
		generic.Handler.NonGoRestfulMux.Handle(NodesPath, machineNodes{s.o.Machine})
		generic.Handler.NonGoRestfulMux.HandlePrefix(NodesPath+"/", machineNodes{s.o.Machine})
	}
	return identity.InstallDiscovery(generic.Handler.GoRestfulContainer, s.ids.key, s.Addr())
}

func (s *Server) installGroups(groups []*genericserver.APIGroupInfo, docs *openAPI) error {
	for _, g := range groups {
		if err := s.installGroup(g, docs); err != nil {
			return fmt.Errorf("server: install %q: %w", g.PrioritizedVersions[0].Group, err)
		}
	}
	return nil
}

func (s *Server) config(codecs serializer.CodecFactory) *genericserver.Config {
	c := genericserver.NewConfig(codecs)
	c.SecureServing = &genericserver.SecureServingInfo{Listener: s.listener}
	c.ExternalAddress = s.Addr()
	c.LoopbackClientConfig = s.LoopbackConfig()
	c.EffectiveVersion = newEffectiveVersion(s.o.Version)
	c.Authentication.Authenticator, c.Authentication.APIAudiences = s.ids.who, identity.Audiences()
	c.Authorization.Authorizer = s.gate
	c.BuildHandlerChainFunc = s.handlerChain
	streams := genericfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch"), sets.NewString("attach", "exec", "log", "portforward", "proxy"))
	c.LongRunningFunc = func(r *http.Request, info *apirequest.RequestInfo) bool { return streams(r, info) || isBackup(r, info) }
	c.EnableProfiling = true         // for the administrator, as every path that is not public
	c.SkipOpenAPIInstallation = true // see openAPI
	return c
}

// groups gathers the storage of all rows by API group, in table order.
func (s *Server) groups(shared *shared, codecs serializer.CodecFactory) ([]*genericserver.APIGroupInfo, error) {
	all := apiGroups{scheme: s.scheme, codecs: codecs}
	for _, k := range kind.Ours(s.o.Kinds.All()) {
		for _, gvk := range k.GVKs() {
			storage, err := shared.storage(k, gvk.GroupVersion())
			if err != nil {
				return nil, err
			}
			all.add(gvk.GroupVersion(), storage)
		}
	}
	all.add(metricsv1beta1.SchemeGroupVersion, shared.measurements())
	return all.groups, nil
}

// apiGroups are what the library installs, a group at a time.
type apiGroups struct {
	scheme *runtime.Scheme
	codecs serializer.CodecFactory
	groups []*genericserver.APIGroupInfo
}

// add puts storage among what its group serves in a version.
func (a *apiGroups) add(gv schema.GroupVersion, storage map[string]rest.Storage) {
	versions := a.of(gv.Group).VersionedResourcesStorageMap
	if versions[gv.Version] == nil {
		versions[gv.Version] = map[string]rest.Storage{}
	}
	maps.Copy(versions[gv.Version], storage)
}

// of returns the group, which is in the scheme with at least a version.
func (a *apiGroups) of(group string) *genericserver.APIGroupInfo {
	for _, g := range a.groups {
		if g.PrioritizedVersions[0].Group == group {
			return g
		}
	}
	g := &genericserver.APIGroupInfo{
		PrioritizedVersions:          a.scheme.PrioritizedVersionsForGroup(group),
		VersionedResourcesStorageMap: map[string]map[string]rest.Storage{},
		OptionsExternalVersion:       &schema.GroupVersion{Version: "v1"},
		Scheme:                       a.scheme,
		NegotiatedSerializer:         a.codecs,
		ParameterCodec:               runtime.NewParameterCodec(a.scheme),
	}
	a.groups = append(a.groups, g)
	return g
}

// installGroup does what GenericAPIServer.InstallAPIGroup does, but for the
// type converter of server-side apply: the library builds the OpenAPI models of
// all resources to make it, at each start. Ours builds them when they are needed.
func (s *Server) installGroup(info *genericserver.APIGroupInfo, docs *openAPI) error {
	g := s.generic
	group := info.PrioritizedVersions[0].Group
	root, manager := genericserver.APIGroupPrefix, g.AggregatedDiscoveryGroupManager
	if group == "" {
		root, manager = genericserver.DefaultLegacyAPIPrefix, g.AggregatedLegacyDiscoveryGroupManager
	}
	var served []metav1.GroupVersionForDiscovery
	for _, gv := range info.PrioritizedVersions {
		storage := info.VersionedResourcesStorageMap[gv.Version]
		if len(storage) == 0 {
			continue
		}
		version := s.groupVersion(info, gv)
		version.Root, version.Storage, version.TypeConverter = root, storage, docs.converter()
		resources, _, err := version.InstallREST(g.Handler.GoRestfulContainer)
		if err != nil {
			return err
		}
		manager.AddGroupVersion(group, apidiscoveryv2.APIVersionDiscovery{
			Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
			Version:   gv.Version,
			Resources: resources,
		})
		docs.addGroupVersion(path.Join(root[1:], group, gv.Version))
		served = append(served, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version})
	}
	if group == "" {
		legacy := discovery.NewLegacyRootAPIHandler(discoveryAddress(s.Addr()), g.Serializer, root)
		wrapped := aggregated.WrapAggregatedDiscoveryToHandler(legacy, manager, manager)
		g.Handler.GoRestfulContainer.Add(wrapped.GenerateWebService(root, metav1.APIVersions{}))
		return nil
	}
	api := metav1.APIGroup{Name: group, Versions: served, PreferredVersion: served[0]}
	g.DiscoveryGroupManager.AddGroup(api)
	g.Handler.GoRestfulContainer.Add(discovery.NewAPIGroupHandler(g.Serializer, api).WebService())
	return nil
}

func (s *Server) groupVersion(info *genericserver.APIGroupInfo, gv schema.GroupVersion) *genericapi.APIGroupVersion {
	scheme := info.Scheme
	served := map[string][]string{}
	for v, storage := range info.VersionedResourcesStorageMap {
		for resource := range storage {
			served[resource] = append(served[resource], schema.GroupVersion{Group: gv.Group, Version: v}.String())
		}
	}
	return &genericapi.APIGroupVersion{
		GroupVersion:                gv,
		AllServedVersionsByResource: served,
		OptionsExternalVersion:      info.OptionsExternalVersion,
		ParameterCodec:              info.ParameterCodec,
		Serializer:                  measuring{info.NegotiatedSerializer},
		Creater:                     deepCreater{scheme},
		Convertor:                   convertor{scheme},
		Admit:                       s.admission,
		ConvertabilityChecker:       scheme,
		UnsafeConvertor:             runtime.UnsafeObjectConvertor(scheme),
		Defaulter:                   scheme,
		Typer:                       scheme,
		Namer:                       runtime.Namer(meta.NewAccessor()),
		EquivalentResourceRegistry:  s.generic.EquivalentResourceRegistry,
		MinRequestTimeout:           30 * time.Minute,
		MaxRequestBodyBytes:         maxBody,
		Authorizer:                  s.generic.Authorizer,
	}
}

// discoveryAddress tells every client the one address.
type discoveryAddress string

func (a discoveryAddress) ServerAddressByClientCIDRs(ip net.IP) []metav1.ServerAddressByClientCIDR {
	return []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: string(a)}}
}

// KubernetesVersion is the version that clients see: that of the Kubernetes that
// is spoken, with this program's own behind it.
func KubernetesVersion(own string) string {
	return "v" + kubernetesPatch + "+sampan." + strings.ReplaceAll(own, "+", ".")
}

// effectiveVersion is the Kubernetes version that is spoken, with this
// program's own behind it.
type effectiveVersion struct {
	basecompatibility.MutableEffectiveVersion
	info version.Info
}

func newEffectiveVersion(own string) *effectiveVersion {
	v := basecompatibility.NewEffectiveVersionFromString(kubernetesPatch, "", "")
	info := baseversion.Get()
	info.Major, info.Minor = fmt.Sprint(v.BinaryVersion().Major()), fmt.Sprint(v.BinaryVersion().Minor())
	info.GitVersion = KubernetesVersion(own)
	info.GitCommit, info.GitTreeState = "", ""
	return &effectiveVersion{MutableEffectiveVersion: v, info: info}
}

func (v *effectiveVersion) Info() *version.Info { return &v.info }
