package server

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
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
	if err := r.admit(view, genericapirequest.NamespaceValue(ctx), obj); err != nil {
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
	return r.insert(ctx, key, obj)
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

// insert commits the creation of obj. That its namespace takes it, the store has asked in the very state
// in which it appears. (kind.NamespaceLifecycle)
func (r *resource) insert(ctx context.Context, key change.Key, obj change.Object) (runtime.Object, error) {
	if rev, err := (storage.APIObjectVersioner{}).ObjectResourceVersion(obj); err == nil && rev != 0 {
		return nil, storage.ErrResourceVersionSetOnCreate // Kubernetes' storage refuses it, and so only when it is written
	}
	set := change.Set{Lazy: r.kind.Storage.BestEffort}
	set.Create(key, obj)
	result, err := r.commit(ctx, set)
	if errors.As(err, new(*store.ConflictError)) {
		old, _ := r.store.View().Get(key)
		return nil, r.alreadyExists(ctx, obj, old)
	}
	if err != nil {
		return nil, err
	}
	return shallow(result.Objects[0]), nil
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
