package server

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store"
)

// nameAttempts is how many generated names are tried, as in Kubernetes.
const nameAttempts = 8

// Create stores a new object.
func (r *resource) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	o := obj.(change.Object)
	if o.GetName() != "" || o.GetGenerateName() == "" {
		return r.create(ctx, o, validate, options)
	}
	var err error
	for range nameAttempts {
		var created runtime.Object
		// Preparing changes the object; every attempt begins with the client's.
		created, err = r.create(ctx, o.DeepCopyObject().(change.Object), validate, options)
		if !apierrors.IsAlreadyExists(err) {
			return created, err
		}
	}
	return nil, err
}

func (r *resource) create(ctx context.Context, obj change.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	view := r.store.View()
	guard, err := r.admit(view, genericapirequest.NamespaceValue(ctx), obj)
	if err != nil {
		return nil, err
	}
	if err := r.mayGive(ctx, view, obj, nil); err != nil {
		return nil, err
	}
	if err := r.prepareNew(ctx, obj, validate); err != nil {
		return nil, err
	}
	key, err := r.key(ctx, obj.GetName())
	if err != nil {
		return nil, err
	}
	if options != nil && dryrun.IsDryRun(options.DryRun) {
		if old, ok := view.Get(key); ok {
			return nil, r.alreadyExists(ctx, obj, old)
		}
		return r.rehearse(view, change.Write{Op: change.Create, Key: key, Object: obj})
	}
	return r.insert(ctx, key, obj, guard)
}

// prepareNew makes of what the client sent what is stored.
func (r *resource) prepareNew(ctx context.Context, obj change.Object, validate rest.ValidateObjectFunc) error {
	obj.SetCreationTimestamp(metav1.NewTime(r.now()).Rfc3339Copy())
	obj.SetUID(uuid.NewUUID())
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(r.strategy.GenerateName(obj.GetGenerateName()))
	}
	if err := rest.BeforeCreate(r.strategy, ctx, obj); err != nil {
		return err
	}
	if err := r.within(r.kind.Create.Limit, obj); err != nil {
		return err
	}
	if signs := r.kind.Create.Signer; signs != nil {
		verb, signer := signs(obj)
		if err := r.mayUse(ctx, verb, signer, obj.GetName()); err != nil {
			return err
		}
	}
	if validate != nil {
		return validate(ctx, obj)
	}
	return nil
}

// insert commits the creation of obj. The namespace is guarded: it exists, and
// is not being deleted, in the very state in which the object appears.
func (r *resource) insert(ctx context.Context, key change.Key, obj change.Object, guard *change.Guard) (runtime.Object, error) {
	for {
		set := change.Set{Lazy: r.kind.Storage.BestEffort}
		set.Create(key, obj)
		if guard != nil {
			set.Guards = append(set.Guards, *guard)
		}
		result, err := r.commit(ctx, set)
		var conflict *store.ConflictError
		switch {
		case err == nil:
			return shallow(result.Objects[0]), nil
		case !errors.As(err, &conflict):
			return nil, err
		case conflict.Key == key:
			old, _ := r.store.View().Get(key)
			return nil, r.alreadyExists(ctx, obj, old)
		}
		// The namespace has changed meanwhile.
		if guard, err = r.guardNamespace(r.store.View(), key.Namespace, obj.GetName()); err != nil {
			return nil, err
		}
	}
}

// rehearse returns the object as write would leave it in the state view, with nothing
// written: a dry run.
func (r *resource) rehearse(view *store.View, write change.Write) (runtime.Object, error) {
	version := write.Object.GetResourceVersion()
	objects, err := r.store.Rehearse(view, change.Set{Writes: []change.Write{write}})
	if err != nil {
		return nil, refused(err)
	}
	objects[0].SetResourceVersion(version)
	return objects[0], nil
}

func (r *resource) alreadyExists(ctx context.Context, obj, old change.Object) error {
	err := rest.CheckGeneratedNameError(ctx, r.strategy, apierrors.NewAlreadyExists(r.gr, obj.GetName()), obj)
	var status *apierrors.StatusError
	if old != nil && old.GetDeletionTimestamp() != nil && errors.As(err, &status) {
		status.ErrStatus.Message = "object is being deleted: " + status.ErrStatus.Message
	}
	return err
}

// guardNamespace returns the guard under which an object may be created in
// namespace, or why it may not. (NamespaceLifecycle)
func (r *resource) guardNamespace(view *store.View, namespace, name string) (*change.Guard, error) {
	if r.guarded == nil || !r.kind.Namespaced {
		return nil, nil
	}
	key := r.guarded.Key("", namespace)
	ns, ok := view.Get(key)
	if !ok {
		return nil, apierrors.NewNotFound(r.guarded.GR(), namespace)
	}
	if r.guarded.Storage.Open(ns) {
		return &change.Guard{Key: key, Rev: revision(ns)}, nil
	}
	err := apierrors.NewForbidden(r.gr, name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", namespace),
		Field:   "metadata.namespace",
	})
	return nil, err
}
