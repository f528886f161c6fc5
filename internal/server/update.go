package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/util/dryrun"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server/strategy"
	"github.com/sampan-batch/sampan/internal/store"
)

// update is one request to change an object.
type update struct {
	*resource
	// rules are the row's, or those of a subresource.
	rules          strategy.Strategy
	subresource    bool
	limit          func(obj, old kind.Object, others kind.Getter) error // of the part that is written
	name           string
	info           rest.UpdatedObjectInfo
	validateCreate rest.ValidateObjectFunc
	validateUpdate rest.ValidateObjectUpdateFunc
	// mayCreate: an apply or a PUT of some kinds creates what is not there.
	mayCreate bool
	dryRun    bool
}

// Update changes an object, or creates it where that is allowed. The bool says
// which.
func (r *resource) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, validateCreate rest.ValidateObjectFunc,
	validateUpdate rest.ValidateObjectUpdateFunc, forceAllowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	u := &update{
		resource: r, rules: r.strategy, name: name, info: info,
		validateCreate: validateCreate, validateUpdate: validateUpdate,
		limit: r.kind.Update.Limit, mayCreate: forceAllowCreate || r.kind.Update.MayCreate,
		dryRun: options != nil && dryrun.IsDryRun(options.DryRun),
	}
	return u.do(ctx)
}

// do repeats the change until it is made to the latest state. Where the client
// has said which state it means, a later one is a conflict (see merge).
func (u *update) do(ctx context.Context) (runtime.Object, bool, error) {
	key, err := u.key(ctx, u.name)
	if err != nil {
		return nil, false, err
	}
	for {
		view := u.store.View()
		old, ok := view.Get(key)
		var obj runtime.Object
		if ok {
			obj, err = u.replace(ctx, key, view, old)
		} else {
			obj, err = u.createMissing(ctx, key, view)
		}
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) {
			return obj, !ok && err == nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, false, apierrors.NewTimeoutError("the object changes too often", 1)
		}
	}
}

// createMissing creates the object that the client wants to update.
func (u *update) createMissing(ctx context.Context, key change.Key, view *store.View) (runtime.Object, error) {
	if !u.mayCreate {
		return nil, apierrors.NewNotFound(u.gr, u.name)
	}
	if err := u.checkUID(key.Namespace, nil); err != nil {
		return nil, err
	}
	updated, err := u.info.UpdatedObject(ctx, u.kind.New())
	if err != nil {
		return nil, err
	}
	obj := updated.(change.Object)
	if err := u.admit(view, genericapirequest.NamespaceValue(ctx), obj); err != nil {
		return nil, err
	}
	if err := u.mayGive(ctx, view, obj, nil); err != nil {
		return nil, err
	}
	rest.WipeObjectMetaSystemFields(obj)
	obj.SetResourceVersion("")
	if err := u.prepareNew(ctx, obj, u.validateCreate); err != nil {
		return nil, err
	}
	if u.dryRun {
		return u.rehearse(view, change.Write{Op: change.Create, Key: key, Object: obj})
	}
	created, err := u.insert(ctx, key, obj)
	if apierrors.IsAlreadyExists(err) {
		return nil, &store.ConflictError{Key: key, Have: 1} // somebody was faster: update his
	}
	return created, err
}

// replace makes the client's change to old.
func (u *update) replace(ctx context.Context, key change.Key, view *store.View, old change.Object) (runtime.Object, error) {
	if err := u.checkUID(key.Namespace, old); err != nil {
		return nil, err
	}
	obj, err := u.merge(ctx, view, old)
	if err != nil {
		return nil, err
	}
	write := u.kind.Settle(change.Write{Op: change.Update, Key: key, Rev: revision(old), Object: obj})
	if u.dryRun && write.Op == change.Update {
		return u.rehearse(view, write)
	}
	if u.dryRun {
		return obj, nil
	}
	if write.Op == change.Update && same(obj, old) {
		return shallow(old), nil
	}
	result, err := u.commit(ctx, change.Set{Writes: []change.Write{write}, Lazy: u.kind.Storage.BestEffort})
	switch {
	case err != nil:
		return nil, err
	case write.Op == change.Delete:
		return obj, nil // the client expects what it put
	}
	return shallow(result.Objects[0]), nil
}

// merge returns the changed object, complete and checked.
func (u *update) merge(ctx context.Context, view *store.View, old change.Object) (change.Object, error) {
	// The library strips managedFields while merging, and patches read the whole
	// object: both get a copy of their own.
	existing := old.DeepCopyObject().(change.Object)
	updated, err := u.info.UpdatedObject(ctx, existing)
	if err != nil {
		return nil, err
	}
	obj := updated.(change.Object)
	if err := u.mayGive(ctx, view, obj, old); err != nil {
		return nil, err
	}
	switch {
	case obj.GetResourceVersion() == "" || obj.GetResourceVersion() == "0":
		if !u.rules.AllowUnconditionalUpdate(ctx) {
			return nil, apierrors.NewInvalid(schema.GroupKind{Group: u.gr.Group, Kind: u.gr.Resource}, u.name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update")})
		}
		obj.SetResourceVersion(old.GetResourceVersion())
	case obj.GetResourceVersion() != old.GetResourceVersion():
		return nil, apierrors.NewConflict(u.gr, u.name, errors.New(registry.OptimisticLockErrorMsg))
	}
	existing = old.DeepCopyObject().(change.Object)
	if admit := u.kind.Update.Admit; admit != nil && !u.subresource {
		admit(obj, existing)
	}
	if err := rest.BeforeUpdate(u.rules, ctx, obj, existing); err != nil {
		return nil, err
	}
	if err := u.stillWithin(u.limit, obj, old); err != nil {
		return nil, err
	}
	if err := u.maySign(ctx, obj, existing); err != nil {
		return nil, err
	}
	// A later timestamp alone is no change.
	settled, err := fieldmanager.IgnoreManagedFieldsTimestampsTransformer(ctx, obj, existing)
	if err != nil {
		return nil, err
	}
	if u.validateUpdate != nil {
		if err := u.validateUpdate(ctx, settled, existing); err != nil {
			return nil, err
		}
	}
	return settled.(change.Object), nil
}

// checkUID refuses to change another object of the same name than the client
// means; old is nil if there is none.
func (u *update) checkUID(namespace string, old change.Object) error {
	p := u.info.Preconditions()
	if p == nil {
		return nil
	}
	var uid, rv string
	if old != nil {
		uid, rv = string(old.GetUID()), old.GetResourceVersion()
	}
	// Clients see where Kubernetes would keep the object.
	switch key := path.Join("/registry", u.gr.Resource, namespace, u.name); {
	case p.UID != nil && string(*p.UID) != uid:
		return apierrors.NewConflict(u.gr, u.name, storage.NewInvalidObjError(key,
			fmt.Sprintf("Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, uid)))
	case p.ResourceVersion != nil && *p.ResourceVersion != rv:
		return apierrors.NewConflict(u.gr, u.name, storage.NewInvalidObjError(key,
			fmt.Sprintf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *p.ResourceVersion, rv)))
	}
	return nil
}

// same reports whether storing a would not change what b is stored as.
func same(a, b change.Object) bool {
	type message interface{ Marshal() ([]byte, error) }
	ma, ok := a.(message)
	if !ok {
		return equality.Semantic.DeepEqual(a, b)
	}
	da, errA := ma.Marshal()
	db, errB := b.(message).Marshal()
	return errA == nil && errB == nil && bytes.Equal(da, db)
}
