package admission

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// params finds the parameters of policies: objects of any kind, as the newest state has them.
type params struct{ o *Options }

// of returns what lists the parameters of a kind, and whether they are in namespaces.
func (p *params) of(gvk *schema.GroupVersionKind) (informers.GenericInformer, meta.RESTScope, error) {
	if gvk == nil {
		return nil, nil, nil
	}
	k := p.o.Kinds.ByGVK(*gvk)
	if k == nil {
		return nil, nil, fmt.Errorf("failed to find resource referenced by paramKind: '%v'", *gvk)
	}
	scope := meta.RESTScopeRoot
	if k.Namespaced {
		scope = meta.RESTScopeNamespace
	}
	return paramInformer{paramLister{o: p.o, kind: k, gvk: *gvk}}, scope, nil
}

// paramInformer implements informers.GenericInformer.
type paramInformer struct{ of paramLister }

func (i paramInformer) Informer() cache.SharedIndexInformer { return synced{} }
func (i paramInformer) Lister() cache.GenericLister         { return i.of }

// paramLister lists the objects of a kind, in one namespace or, "", wherever they are.
type paramLister struct {
	o         *Options
	kind      *kind.Kind
	gvk       schema.GroupVersionKind // in which version they are wanted
	namespace string
}

// ByNamespace implements cache.GenericLister.
func (l paramLister) ByNamespace(namespace string) cache.GenericNamespaceLister {
	l.namespace = namespace
	return l
}

// List implements cache.GenericLister.
func (l paramLister) List(selector labels.Selector) (all []runtime.Object, err error) {
	for obj := range l.o.Store.View().List(l.kind.Resource, l.namespace) {
		if !selector.Matches(labels.Set(obj.GetLabels())) {
			continue
		}
		converted, err := l.convert(obj)
		if err != nil {
			return nil, err
		}
		all = append(all, converted)
	}
	return all, nil
}

// Get implements cache.GenericLister.
func (l paramLister) Get(name string) (runtime.Object, error) {
	obj, found := l.o.Store.View().Get(l.kind.Key(l.namespace, name))
	if !found {
		return nil, apierrors.NewNotFound(l.kind.GR(), name)
	}
	return l.convert(obj)
}

// convert returns an object in the version that is wanted. What a definition defines is stored in
// one version; only a webhook knows more of others than that they have another name.
func (l paramLister) convert(obj change.Object) (runtime.Object, error) {
	if u, custom := obj.(*unstructured.Unstructured); custom {
		if u.GroupVersionKind() == l.gvk {
			return u, nil
		}
		if l.convertedElsewhere() {
			return nil, fmt.Errorf("%s %q is stored as %s, and what converts it to %s is a webhook", l.kind.GR(), u.GetName(), u.GetAPIVersion(), l.gvk.GroupVersion())
		}
		other := &unstructured.Unstructured{Object: make(map[string]any, len(u.Object))}
		for field, value := range u.Object {
			other.Object[field] = value
		}
		other.SetGroupVersionKind(l.gvk)
		return other, nil
	}
	if l.gvk == l.kind.GVK {
		return obj, nil
	}
	out, err := l.o.Scheme.New(l.gvk)
	if err != nil {
		return nil, err
	}
	return out, l.o.Scheme.Convert(obj, out, nil)
}

// convertedElsewhere reports whether a webhook converts the objects.
func (l paramLister) convertedElsewhere() bool {
	obj, found := l.o.Store.View().Get(kind.CustomResourceDefinitions.Key("", string(l.kind.Resource)))
	definition, isMap := obj.(*unstructured.Unstructured)
	if !found || !isMap {
		return false
	}
	strategy, _, _ := unstructured.NestedString(definition.Object, "spec", "conversion", "strategy")
	return strategy == "Webhook"
}
