package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/backend"
	"github.com/sampan-batch/sampan/internal/server/identity"
	"github.com/sampan-batch/sampan/internal/server/strategy"
	"github.com/sampan-batch/sampan/internal/store"
)

// shared is what the storage of all resources has in common.
type shared struct {
	store     *store.Store
	kinds     *kind.Kinds
	scheme    *runtime.Scheme
	now       func() time.Time
	nodes     func(name string) PodStreams
	views     *views
	encodings *encodings
	gate      *gate
	tokens    *identity.Issuer
	services  *backend.Services
	// stop ends the streams of those who exec, attach and forward ports.
	stop     context.Context
	sessions *sessions
}

func newShared(s *Server) *shared {
	o := &s.o
	sh := &shared{
		store: o.Store, kinds: o.Kinds, scheme: s.scheme, now: o.Now, nodes: o.Node,
		views: newViews(o.Now, func() uint64 { return o.Store.View().Rev() }), encodings: newEncodings(), gate: s.gate, tokens: s.ids.tokens, stop: s.stopping,
		sessions: newSessions(o.sessions),
	}
	sh.services = backend.New(backend.Options{View: o.Store.View, Pod: sh.dialPod, API: s.LoopbackConfig, Bounds: tooMuch})
	return sh
}

// request is what the rules of kinds have to know of the request in ctx.
func (sh *shared) request(ctx context.Context) *kind.Request {
	return &kind.Request{Context: ctx, Authorizer: sh.gate, Resource: sh.resourceOf, Policy: sh.policy, Namespace: func(name string) (*corev1.Namespace, bool) {
		obj, found := sh.store.View().Get(kind.Namespaces.Key("", name))
		if !found {
			return nil, false
		}
		return obj.(*corev1.Namespace), true
	}, Pods: func(namespace string) (all []*corev1.Pod) {
		for obj := range sh.store.View().List(kind.Pods, namespace) {
			all = append(all, obj.(*corev1.Pod))
		}
		return all
	}}
}

// storage returns what a row serves in one group version: the resource itself
// and its subresources.
func (sh *shared) storage(k *kind.Kind, gv schema.GroupVersion) (map[string]rest.Storage, error) {
	r := newResource(sh, k, gv)
	plural := k.Plural()
	storage := map[string]rest.Storage{plural: r}
	if k.Deletion.OneByOne {
		storage[plural] = newOneByOne(r)
	}
	if k.Status != nil {
		storage[plural+"/status"] = &status{r, k.Status}
	}
	if k.Approval != nil {
		storage[plural+"/approval"] = &status{r, k.Approval}
	}
	if k.Finalize != nil {
		storage[plural+"/finalize"] = &finalize{r}
	}
	if k.Scale != nil {
		storage[plural+"/scale"] = newScale(r)
	}
	for i := range k.Parts {
		storage[plural+"/"+string(k.Parts[i].Name)] = &part{of: r, rules: &k.Parts[i].Update}
	}
	for _, name := range k.Subresources {
		serve := subresources()[name]
		if serve == nil {
			return nil, fmt.Errorf("%s has the subresource %q, which nothing here serves: give it a line in subresources()", k.Resource, name)
		}
		st := serve(r)
		storage[plural+"/"+string(name)] = st
		if sub, ok := st.(standsAlone); ok {
			resource, st := sub.alone()
			storage[resource] = st
		}
	}
	return storage, nil
}

// resource is the rest.Storage of one row in one served version.
type resource struct {
	*shared
	kind *kind.Kind
	// gv is the version that requests come in, gr how errors name the resource.
	gv       schema.GroupVersion
	gr       schema.GroupResource
	strategy strategy.Strategy
	table    rest.TableConvertor
}

func newResource(sh *shared, k *kind.Kind, gv schema.GroupVersion) *resource {
	r := &resource{shared: sh, kind: k, gv: gv, gr: schema.GroupResource{Group: gv.Group, Resource: k.Plural()}}
	r.strategy = strategy.Of(sh.scheme, k, gv)
	r.strategy.Request = sh.request
	r.table = newTable(k, r.gr, sh.now)
	return r
}

var _ interface {
	rest.StandardStorage
	rest.ShortNamesProvider
	rest.CategoriesProvider
	rest.SingularNameProvider
	rest.ResetFieldsStrategy
	rest.MayReturnFullObjectDeleter
} = &resource{}

// New, NewList and the following tell the library about the row.

func (r *resource) New() runtime.Object     { return r.kind.New() }
func (r *resource) NewList() runtime.Object { return r.kind.NewList() }
func (r *resource) Destroy()                {}
func (r *resource) NamespaceScoped() bool   { return r.kind.Namespaced }
func (r *resource) ShortNames() []string    { return r.kind.ShortNames }
func (r *resource) Categories() []string    { return r.kind.Categories }
func (r *resource) GetSingularName() string { return r.kind.Singular }

// GetResetFields tells server-side apply what a write to the resource itself
// does not change.
func (r *resource) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if reset := r.kind.Update.ResetFields; reset != nil {
		return reset()
	}
	if r.kind.Status == nil {
		return nil
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(r.gv.String()): fieldpath.NewSet(fieldpath.MakePathOrDie("status")),
	}
}

// ConvertToTable prints an object or a list with the row's columns.
func (r *resource) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return r.table.ConvertToTable(ctx, obj, options)
}

// key returns the key of the object that the request in ctx names.
func (r *resource) key(ctx context.Context, name string) (change.Key, error) {
	namespace := ""
	if r.kind.Namespaced {
		if namespace = genericapirequest.NamespaceValue(ctx); namespace == "" {
			return change.Key{}, apierrors.NewBadRequest("Namespace parameter required.")
		}
	}
	if name == "" {
		return change.Key{}, apierrors.NewBadRequest("Name parameter required.")
	}
	if msgs := content.IsPathSegmentName(name); len(msgs) > 0 {
		return change.Key{}, apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", name, msgs[0]))
	}
	return r.kind.Key(namespace, name), nil
}

// commit applies the set. Errors that are not a conflict come back as the API
// answers them.
func (sh *shared) commit(ctx context.Context, set change.Set) (store.Result, error) {
	result, err := sh.store.Apply(ctx, set)
	if err == nil {
		return result, nil
	}
	var conflict *store.ConflictError
	switch {
	case errors.As(err, &conflict):
		return result, err
	case ctx.Err() != nil && !errors.As(err, new(*change.Refusal)) && !errors.Is(err, store.ErrClosed):
		return result, apierrors.NewTimeoutError("the request did not complete in time", 0)
	}
	return result, refused(err)
}

// refused is how the API puts it that the store does not take a set.
func refused(err error) error {
	var refusal *change.Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal.Err
	case errors.Is(err, store.ErrClosed):
		return apierrors.NewServiceUnavailable("the server is shutting down")
	}
	return apierrors.NewInternalError(err)
}

// shallow returns what the library may be given of a shared object in order to
// encode it: a copy of its outside, without TypeMeta, which the library writes. An
// object that is a map has no other type than what it says, and keeps it.
func shallow(obj change.Object) change.Object {
	out := change.Outer(obj)
	if _, isMap := out.(*unstructured.Unstructured); !isMap {
		out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	return out
}

// revision returns the resourceVersion of an object of the store.
func revision(obj metav1.Object) uint64 {
	rev, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(fmt.Sprintf("server: stored object %s/%s has resourceVersion %q", obj.GetNamespace(), obj.GetName(), obj.GetResourceVersion()))
	}
	return rev
}
