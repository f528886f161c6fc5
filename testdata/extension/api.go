package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	basecompatibility "k8s.io/component-base/compatibility"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	models "github.com/sampan-batch/sampan/internal/kind/openapi"
)

// Greeting is what this API is about: who has said what.
type Greeting struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Text              string `json:"text"`
	From              string `json:"from"` // the user, and his groups
}

// DeepCopyObject implements runtime.Object.
func (g *Greeting) DeepCopyObject() runtime.Object {
	out := *g
	g.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return &out
}

// OpenAPIModelName is the name of the model.
func (Greeting) OpenAPIModelName() string { return "com.example.greetings.v1.Greeting" }

// GreetingList is a list of them.
type GreetingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Greeting `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *GreetingList) DeepCopyObject() runtime.Object {
	out := &GreetingList{TypeMeta: l.TypeMeta, ListMeta: l.ListMeta}
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*Greeting))
	}
	return out
}

// OpenAPIModelName is the name of the model.
func (GreetingList) OpenAPIModelName() string { return "com.example.greetings.v1.GreetingList" }

var greetings = schema.GroupVersion{Group: "greetings.example.com", Version: "v1"}

// serveAPI serves greetings.example.com/v1 as the servers of aggregated APIs do: by
// k8s.io/apiserver, asking the cluster's own API whom to believe, and who may do what.
func serveAPI(cert, key string) error {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, gv := range []schema.GroupVersion{greetings, {Group: greetings.Group, Version: runtime.APIVersionInternal}} {
		scheme.AddKnownTypes(gv, &Greeting{}, &GreetingList{})
	}
	metav1.AddToGroupVersion(scheme, greetings)
	codecs := serializer.NewCodecFactory(scheme)
	config := genericserver.NewRecommendedConfig(codecs)
	config.EffectiveVersion = basecompatibility.NewEffectiveVersionFromString("1.37", "", "")
	namer := openapi.NewDefinitionNamer(scheme)
	config.OpenAPIConfig = genericserver.DefaultOpenAPIConfig(definitions, namer)
	config.OpenAPIV3Config = genericserver.DefaultOpenAPIV3Config(definitions, namer)

	serving := options.NewSecureServingOptions().WithLoopback()
	serving.BindPort, serving.ServerCert.CertKey.CertFile, serving.ServerCert.CertKey.KeyFile = 8443, cert, key
	authentication, authorization := options.NewDelegatingAuthenticationOptions(), options.NewDelegatingAuthorizationOptions()
	if err := serving.ApplyTo(&config.SecureServing, &config.LoopbackClientConfig); err != nil {
		return err
	}
	if err := authentication.ApplyTo(&config.Authentication, config.SecureServing, config.OpenAPIConfig); err != nil {
		return err
	}
	if err := authorization.ApplyTo(&config.Authorization); err != nil {
		return err
	}
	server, err := config.Complete().New("greetings", genericserver.NewEmptyDelegate())
	if err != nil {
		return err
	}
	group := genericserver.NewDefaultAPIGroupInfo(greetings.Group, scheme, runtime.NewParameterCodec(scheme), codecs)
	group.PrioritizedVersions = []schema.GroupVersion{greetings}
	group.VersionedResourcesStorageMap["v1"] = map[string]rest.Storage{"greetings": &book{
		said: map[types.NamespacedName]*Greeting{}, news: watch.NewBroadcaster(100, watch.WaitIfChannelFull), TableConvertor: rest.NewDefaultTableConvertor(greetings.WithResource("greetings").GroupResource()),
	}}
	if err := server.InstallAPIGroup(&group); err != nil {
		return err
	}
	return server.PrepareRun().RunWithContext(context.Background())
}

func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := models.Definitions(ref)
	of := func(properties map[string]spec.Schema, description string) common.OpenAPIDefinition {
		properties["apiVersion"], properties["kind"] = *spec.StringProperty(), *spec.StringProperty()
		return common.OpenAPIDefinition{Schema: spec.Schema{SchemaProps: spec.SchemaProps{Description: description, Type: []string{"object"}, Properties: properties}}}
	}
	to := func(model string) *spec.Schema { return &spec.Schema{SchemaProps: spec.SchemaProps{Ref: ref(model)}} }
	meta, list := to(metav1.ObjectMeta{}.OpenAPIModelName()), to(metav1.ListMeta{}.OpenAPIModelName())
	all[Greeting{}.OpenAPIModelName()] = of(map[string]spec.Schema{"metadata": *meta, "text": *spec.StringProperty().WithDescription("what was said"), "from": *spec.StringProperty()}, "Greeting is what somebody has said.")
	all[GreetingList{}.OpenAPIModelName()] = of(map[string]spec.Schema{"metadata": *list, "items": *spec.ArrayProperty(to(Greeting{}.OpenAPIModelName()))}, "GreetingList is a list.")
	return all
}

// book is the storage of greetings, in memory.
type book struct {
	rest.TableConvertor
	mu   sync.Mutex
	rev  int
	said map[types.NamespacedName]*Greeting
	news *watch.Broadcaster
}

func (b *book) New() runtime.Object     { return &Greeting{} }
func (b *book) NewList() runtime.Object { return &GreetingList{} }
func (b *book) Destroy()                {}
func (b *book) NamespaceScoped() bool   { return true }
func (b *book) GetSingularName() string { return "greeting" }
func (b *book) ShortNames() []string    { return []string{"hi"} }

// Create keeps a greeting, with who has said it.
func (b *book) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	g := obj.(*Greeting)
	who, _ := genericapirequest.UserFrom(ctx)
	g.Namespace, g.UID, g.CreationTimestamp = genericapirequest.NamespaceValue(ctx), uuid.NewUUID(), metav1.NewTime(time.Now())
	g.From = fmt.Sprint(who.GetName(), " ", who.GetGroups())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rev++
	g.ResourceVersion = fmt.Sprint(b.rev)
	b.said[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}] = g
	return g, b.news.Action(watch.Added, g)
}

// Get returns one.
func (b *book) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.said[types.NamespacedName{Namespace: genericapirequest.NamespaceValue(ctx), Name: name}]; g != nil {
		return g.DeepCopyObject(), nil
	}
	return nil, apierrors.NewNotFound(greetings.WithResource("greetings").GroupResource(), name)
}

// List returns those of a namespace, or all.
func (b *book) List(ctx context.Context, _ *internalversion.ListOptions) (runtime.Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := &GreetingList{ListMeta: metav1.ListMeta{ResourceVersion: fmt.Sprint(b.rev)}}
	for at, g := range b.said {
		if ns := genericapirequest.NamespaceValue(ctx); ns == "" || ns == at.Namespace {
			list.Items = append(list.Items, *g.DeepCopyObject().(*Greeting))
		}
	}
	return list, nil
}

// Delete takes one back.
func (b *book) Delete(ctx context.Context, name string, _ rest.ValidateObjectFunc, _ *metav1.DeleteOptions) (runtime.Object, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := types.NamespacedName{Namespace: genericapirequest.NamespaceValue(ctx), Name: name}
	g := b.said[at]
	if g == nil {
		return nil, false, apierrors.NewNotFound(greetings.WithResource("greetings").GroupResource(), name)
	}
	delete(b.said, at)
	return g, true, b.news.Action(watch.Deleted, g)
}

// Watch tells what is said from now on.
func (b *book) Watch(context.Context, *internalversion.ListOptions) (watch.Interface, error) {
	return b.news.Watch()
}
