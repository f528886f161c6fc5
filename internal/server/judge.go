package server

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8sadmission "k8s.io/apiserver/pkg/admission"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/admission"
	"github.com/sampan-batch/sampan/internal/store"
)

// newJudge returns what judges the writes, of clients and of controllers.
func (s *Server) newJudge(shared *shared, docs *openAPI) *admission.Judge {
	return admission.New(admission.Options{
		Store: s.o.Store, Kinds: s.o.Kinds, Authorizer: s.gate, Scheme: s.scheme,
		Interfaces: interfaces{s.scheme, s.generic.EquivalentResourceRegistry},
		Begin:      s.late.install, // rules may name a resource by any of its versions
		First:      shared.admitFirst, Bounds: tooMuch,
		Services: shared.services,
		Types:    docs.converter(), Custom: s.custom.Types,
		Schemas: s.schemas(docs), Loopback: s.LoopbackConfig(),
	})
}

// schemas finds the model of a type, of ours or of what definitions make.
func (s *Server) schemas(docs *openAPI) func(schema.GroupVersionKind) (*spec.Schema, error) {
	return func(gvk schema.GroupVersionKind) (*spec.Schema, error) {
		if k := s.o.Kinds.ByGVK(gvk); k != nil && k.Elsewhere {
			return s.custom.Schema(gvk)
		}
		return docs.resolve(gvk)
	}
}

// Admission judges what controllers create, as the API does what clients write.
func (s *Server) Admission() *admission.Judge { return s.judge }

// admitFirst does to an object what Kubernetes' own admission does before webhooks and policies
// see it. (The storage does it again, to what these have left.)
func (sh *shared) admitFirst(view *store.View, a k8sadmission.Attributes) error {
	gr := a.GetResource().GroupResource()
	k := sh.kinds.ByResource(change.Resource(gr.String()))
	obj, ok := a.GetObject().(change.Object)
	if k == nil || !ok || a.GetSubresource() != "" {
		return nil
	}
	switch a.GetOperation() {
	case k8sadmission.Create:
		return (&resource{shared: sh, kind: k, gr: gr}).admit(view, a.GetNamespace(), obj)
	case k8sadmission.Update:
		if old, ok := a.GetOldObject().(change.Object); ok && k.Update.Admit != nil {
			k.Update.Admit(obj, old)
		}
	}
	return nil
}

// interfaces are what judges need of the scheme. (k8sadmission.ObjectInterfaces)
type interfaces struct {
	scheme     *runtime.Scheme
	equivalent runtime.EquivalentResourceMapper
}

func (i interfaces) GetObjectCreater() runtime.ObjectCreater     { return i.scheme }
func (i interfaces) GetObjectTyper() runtime.ObjectTyper         { return i.scheme }
func (i interfaces) GetObjectDefaulter() runtime.ObjectDefaulter { return i.scheme }
func (i interfaces) GetObjectConvertor() runtime.ObjectConvertor { return convertor{i.scheme} }
func (i interfaces) GetEquivalentResourceMapper() runtime.EquivalentResourceMapper {
	return i.equivalent
}

// convertor is the scheme's, which has no conversion of a type into itself: what it stores, and what
// it serves, are different types in Kubernetes.
type convertor struct{ runtime.ObjectConvertor }

// Convert makes out what in is. Of the same type, it shares all that it points to with it.
func (c convertor) Convert(in, out, context any) error {
	from, to := reflect.ValueOf(in), reflect.ValueOf(out)
	_, isMap := in.(*unstructured.Unstructured)
	if isMap || from.Type() != to.Type() || from.Kind() != reflect.Pointer {
		return c.ObjectConvertor.Convert(in, out, context)
	}
	obj, ok := out.(runtime.Object)
	if !ok {
		return c.ObjectConvertor.Convert(in, out, context)
	}
	said := obj.GetObjectKind().GroupVersionKind()
	to.Elem().Set(from.Elem())
	obj.GetObjectKind().SetGroupVersionKind(said)
	return nil
}

// resourceOf returns the resource that serves the objects of a kind.
func (sh *shared) resourceOf(gvk schema.GroupVersionKind) (schema.GroupVersionResource, error) {
	k := sh.kinds.ByGVK(gvk)
	if k == nil {
		return schema.GroupVersionResource{}, fmt.Errorf("no resource serves %s", gvk)
	}
	return gvk.GroupVersion().WithResource(k.Plural()), nil
}

// policy returns an admission policy, by resource and name.
func (sh *shared) policy(resource, name string) (runtime.Object, bool) {
	for _, of := range []change.Resource{kind.MutatingAdmissionPolicies, kind.ValidatingAdmissionPolicies} {
		if schema.ParseGroupResource(string(of)).Resource == resource {
			return sh.store.View().Get(of.Key("", name))
		}
	}
	return nil, false
}
