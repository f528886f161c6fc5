package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/admissionregistration"
	admissioninformers "k8s.io/client-go/informers/admissionregistration/v1"
	admissioninformersalpha "k8s.io/client-go/informers/admissionregistration/v1alpha1"
	admissioninformersbeta "k8s.io/client-go/informers/admissionregistration/v1beta1"
	"k8s.io/client-go/informers/core"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	admissionlisters "k8s.io/client-go/listers/admissionregistration/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// informerFactory is where the plugins get informers: of namespaces, and of the configurations
// of webhooks. Whatever else they would ask it for, it does not have.
type informerFactory struct {
	informers.SharedInformerFactory
	namespaces           namespaceLister
	mutating, validating *informer
}

func newInformerFactory(namespaces namespaceLister) *informerFactory {
	return &informerFactory{namespaces: namespaces, mutating: newInformer(), validating: newInformer()}
}

// Core implements informers.SharedInformerFactory.
func (f *informerFactory) Core() core.Interface { return coreOf{f} }

// Admissionregistration implements informers.SharedInformerFactory.
func (f *informerFactory) Admissionregistration() admissionregistration.Interface { return groupOf{f} }

type coreOf struct{ f *informerFactory }

func (c coreOf) V1() coreinformers.Interface { return coreV1{f: c.f} }

type coreV1 struct {
	coreinformers.Interface
	f *informerFactory
}

func (c coreV1) Namespaces() coreinformers.TypedNamespaceInformer { return namespaceInformer{f: c.f} }

type namespaceInformer struct {
	coreinformers.TypedNamespaceInformer
	f *informerFactory
}

func (n namespaceInformer) Informer() cache.SharedIndexInformer { return synced{} }
func (n namespaceInformer) Lister() corelisters.NamespaceLister { return n.f.namespaces }

type groupOf struct{ f *informerFactory }

func (g groupOf) V1() admissioninformers.Interface { return groupV1{f: g.f} }

// V1alpha1 and V1beta1 are not asked.
func (g groupOf) V1alpha1() admissioninformersalpha.Interface { return nil }
func (g groupOf) V1beta1() admissioninformersbeta.Interface   { return nil }

type groupV1 struct {
	admissioninformers.Interface
	f *informerFactory
}

func (g groupV1) MutatingWebhookConfigurations() admissioninformers.TypedMutatingWebhookConfigurationInformer {
	return mutatingInformer{f: g.f}
}

func (g groupV1) ValidatingWebhookConfigurations() admissioninformers.TypedValidatingWebhookConfigurationInformer {
	return validatingInformer{f: g.f}
}

type mutatingInformer struct {
	admissioninformers.TypedMutatingWebhookConfigurationInformer
	f *informerFactory
}

func (m mutatingInformer) Informer() cache.SharedIndexInformer { return m.f.mutating }
func (m mutatingInformer) Lister() admissionlisters.MutatingWebhookConfigurationLister {
	return admissionlisters.NewMutatingWebhookConfigurationLister(m.f.mutating.indexer)
}

type validatingInformer struct {
	admissioninformers.TypedValidatingWebhookConfigurationInformer
	f *informerFactory
}

func (v validatingInformer) Informer() cache.SharedIndexInformer { return v.f.validating }
func (v validatingInformer) Lister() admissionlisters.ValidatingWebhookConfigurationLister {
	return admissionlisters.NewValidatingWebhookConfigurationLister(v.f.validating.indexer)
}

// synced is an informer that knows everything already.
type synced struct{ cache.SharedIndexInformer }

func (synced) HasSynced() bool                     { return true }
func (synced) HasSyncedChecker() cache.DoneChecker { return nil }

// informer is one whose objects are set.
type informer struct {
	synced
	indexer cache.Indexer
	handler cache.ResourceEventHandler
}

func newInformer() *informer {
	return &informer{indexer: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})}
}

// GetIndexer implements cache.SharedIndexInformer.
func (i *informer) GetIndexer() cache.Indexer { return i.indexer }

// AddEventHandler implements cache.SharedIndexInformer. There is one.
func (i *informer) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	i.handler = handler
	return synced{}, nil
}

// set makes these the objects, and tells the handler what is another now.
func (i *informer) set(objects []change.Object) {
	gone := map[string]any{}
	for _, obj := range i.indexer.List() {
		gone[obj.(change.Object).GetName()] = obj
	}
	for _, obj := range objects {
		old := gone[obj.GetName()]
		delete(gone, obj.GetName())
		_ = i.indexer.Add(obj) // it has a key
		switch {
		case old == nil:
			i.handler.OnAdd(obj, false)
		case old != any(obj):
			i.handler.OnUpdate(old, obj)
		}
	}
	for _, obj := range gone {
		_ = i.indexer.Delete(obj)
		i.handler.OnDelete(obj)
	}
}

// listOf returns the objects of a resource.
func listOf[T change.Object](view *store.View, resource change.Resource) []change.Object {
	var all []change.Object
	for obj := range view.List(resource, "") {
		if _, ok := obj.(T); ok {
			all = append(all, obj)
		}
	}
	return all
}

// namespaceLister knows the namespaces of the newest state.
type namespaceLister struct{ store *store.Store }

// List implements corelisters.NamespaceLister.
func (l namespaceLister) List(selector labels.Selector) (all []*corev1.Namespace, err error) {
	for obj := range l.store.View().List(kind.Namespaces, "") {
		if selector.Matches(labels.Set(obj.GetLabels())) {
			all = append(all, obj.(*corev1.Namespace))
		}
	}
	return all, nil
}

// Get implements corelisters.NamespaceLister.
func (l namespaceLister) Get(name string) (*corev1.Namespace, error) {
	obj, found := l.store.View().Get(kind.Namespaces.Key("", name))
	if !found {
		return nil, apierrors.NewNotFound(corev1.Resource(string(kind.Namespaces)), name)
	}
	return obj.(*corev1.Namespace), nil
}

// noClient is asked for a namespace that the lister does not have. Nor does it.
type noClient struct{ kubernetes.Interface }

func (noClient) CoreV1() typedcorev1.CoreV1Interface { return noCore{} }

type noCore struct{ typedcorev1.CoreV1Interface }

func (noCore) Namespaces() typedcorev1.NamespaceInterface { return noNamespaces{} }

type noNamespaces struct{ typedcorev1.NamespaceInterface }

func (noNamespaces) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Namespace, error) {
	return nil, apierrors.NewNotFound(corev1.Resource(string(kind.Namespaces)), name)
}
