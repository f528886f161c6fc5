package server

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// admit does what Kubernetes' admission does to a new object: its namespace
// exists (the guard holds that until the commit), and it gets what its row says.
func (r *resource) admit(view *store.View, namespace string, obj change.Object) (*change.Guard, error) {
	guard, err := r.guardNamespace(view, namespace, obj.GetName())
	if err != nil || r.kind.Create.Admit == nil {
		return guard, err
	}
	if r.kind.Namespaced {
		obj.SetNamespace(namespace) // the library allows it to be left out
	}
	if err := r.kind.Create.Admit(obj, view); err != nil {
		return nil, apierrors.NewForbidden(r.gr, obj.GetName(), err)
	}
	return guard, nil
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
