package server

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8sadmission "k8s.io/apiserver/pkg/admission"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// admit does what Kubernetes' admission does to a new object: it gets what its row says.
func (r *resource) admit(view *store.View, namespace string, obj change.Object) error {
	if r.kind.Create.Admit == nil {
		return nil
	}
	if r.kind.Namespaced {
		obj.SetNamespace(namespace) // the library allows it to be left out
	}
	if err := r.kind.Create.Admit(obj, view); err != nil {
		return apierrors.NewForbidden(r.gr, obj.GetName(), err)
	}
	return nil
}

// within asks what limits an object in view of others.
func (r *resource) within(limit func(kind.Object, kind.Getter) error, obj change.Object) error {
	if limit == nil {
		return nil
	}
	if err := limit(obj, r.store.View()); err != nil {
		return apierrors.NewForbidden(r.gr, obj.GetName(), err)
	}
	return nil
}

// stillWithin is within for a change of old.
func (r *resource) stillWithin(limit func(obj, old kind.Object, others kind.Getter) error, obj, old change.Object) error {
	if limit == nil {
		return nil
	}
	return r.within(func(obj kind.Object, others kind.Getter) error { return limit(obj, old, others) }, obj)
}

// lifecycle is Kubernetes' admission plugin NamespaceLifecycle, the first one, for whatever is created
// in a namespace: objects of all kinds, and what subresources take (evictions, tokens). Others may come between
// this look and the commit; the store looks again then.
type lifecycle struct{ *shared }

// Handles implements admission.Interface.
func (lifecycle) Handles(op k8sadmission.Operation) bool { return op == k8sadmission.Create }

// localReviews say of nobody's namespace whether it is there.
var localReviews = schema.GroupResource{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}

// Admit implements admission.MutationInterface.
func (l lifecycle) Admit(_ context.Context, a k8sadmission.Attributes, _ k8sadmission.ObjectInterfaces) error {
	gr := a.GetResource().GroupResource()
	if a.GetNamespace() == "" || gr.Group == "" && gr.Resource == string(kind.Namespaces) || gr == localReviews || l.kinds.ByResource(kind.Namespaces) == nil {
		return nil
	}
	return kind.MayEnter(l.store.View(), a.GetNamespace(), gr, nameIn(a))
}

// nameIn is what Kubernetes' admission calls the object of a request.
func nameIn(a k8sadmission.Attributes) string {
	obj, ok := a.GetObject().(change.Object)
	switch {
	case a.GetName() != "":
		return a.GetName()
	case ok && obj.GetName() != "":
		return obj.GetName()
	case ok && obj.GetGenerateName() != "":
		return obj.GetGenerateName()
	}
	return "Unknown"
}
