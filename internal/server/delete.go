package server

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
	"k8s.io/apiserver/pkg/warning"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/server/admission"
	"github.com/sampan-batch/sampan/internal/server/custom"
	"github.com/sampan-batch/sampan/internal/store"
)

// DeleteReturnsDeletedObject implements rest.MayReturnFullObjectDeleter for
// the OpenAPI documents.
func (r *resource) DeleteReturnsDeletedObject() bool { return r.kind.Deletion.ReturnsObject }

// Delete begins the deletion of an object, and completes it if nothing holds
// the object. The bool says whether it is gone.
func (r *resource) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if options == nil {
		options = metav1.NewDeleteOptions(0)
	}
	r.warnOrphans(ctx, options)
	return r.delete(ctx, name, validate, options)
}

// GetCorruptObjDeleter implements rest.CorruptObjectDeleterProvider: who would delete an object unread.
func (r *resource) GetCorruptObjDeleter() rest.GracefulDeleter { return readable{r} }

// readable is a resource of which nothing can be deleted unread, since all of it can be read.
type readable struct{ of *resource }

// Delete implements rest.GracefulDeleter.
func (r readable) Delete(ctx context.Context, name string, _ rest.ValidateObjectFunc, _ *metav1.DeleteOptions) (runtime.Object, bool, error) {
	key, err := r.of.key(ctx, name)
	if err != nil {
		return nil, false, err
	}
	if _, ok := r.of.store.View().Get(key); !ok {
		return nil, false, apierrors.NewNotFound(r.of.gr, name)
	}
	return nil, false, apierrors.NewConflict(r.of.gr, name, custom.Decodable(path.Join("/", r.of.gr.Resource, key.Namespace, name)))
}

func (r *resource) warnOrphans(ctx context.Context, options *metav1.DeleteOptions) {
	//lint:ignore SA1019 old clients still send OrphanDependents
	if w := r.kind.Dependents.Warning; w != "" && options.PropagationPolicy == nil && options.OrphanDependents == nil && r.orphanByDefault() {
		warning.AddWarning(ctx, "", w)
	}
}

func (r *resource) delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	key, err := r.key(ctx, name)
	if err != nil {
		return nil, false, err
	}
	for {
		old, ok := r.store.View().Get(key)
		if !ok {
			return nil, false, apierrors.NewNotFound(r.gr, name)
		}
		if err := r.mayDelete(ctx, old, validate, options); err != nil {
			return nil, false, err
		}
		write, ok := r.removal(old, options)
		if !ok {
			return shallow(old), false, nil // it is on its way already
		}
		if dryrun.IsDryRun(options.DryRun) {
			return r.deleted(write, old), write.Op == change.Delete, nil
		}
		result, err := r.commit(ctx, change.Set{Writes: []change.Write{write}, Lazy: r.kind.Storage.BestEffort})
		var conflict *store.ConflictError
		switch {
		case err == nil:
			return r.deleted(write, result.Objects[0]), write.Op == change.Delete, nil
		case !errors.As(err, &conflict):
			return nil, false, err
		}
	}
}

// mayDelete checks the options, their preconditions and admission.
func (r *resource) mayDelete(ctx context.Context, old change.Object, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) error {
	// Without a grace rule in the strategy, this is only the checks.
	if _, _, err := rest.BeforeDelete(typer{r.scheme}, ctx, shallow(old), options); err != nil {
		return err
	}
	if refuse := r.kind.Deletion.Refuse; refuse != nil {
		if err := refuse(old); err != nil {
			return apierrors.NewForbidden(r.gr, old.GetName(), err)
		}
	}
	if validate != nil {
		return validate(ctx, old)
	}
	return nil
}

type typer struct{ runtime.ObjectTyper }

// removal returns the write that a DELETE with these options makes; !ok: none.
func (r *resource) removal(old change.Object, options *metav1.DeleteOptions) (change.Write, bool) {
	target := old
	if finalizers := r.propagation(old, options); !slices.Equal(finalizers, old.GetFinalizers()) {
		target = old.DeepCopyObject().(change.Object)
		target.SetFinalizers(finalizers)
	}
	write, ok := r.kind.Removal(target, revision(old), r.now(), options.GracePeriodSeconds)
	if !ok && target != old {
		write = r.kind.Settle(change.Write{Op: change.Update, Key: r.kind.KeyOf(old), Rev: revision(old), Object: target})
		ok = true
	}
	return write, ok
}

// deleted is what a DELETE answers: the object that is left or, when it is
// gone, for most resources the news of that.
func (r *resource) deleted(write change.Write, obj change.Object) runtime.Object {
	if write.Op == change.Update {
		return shallow(write.Object)
	}
	if r.DeleteReturnsDeletedObject() {
		return shallow(obj)
	}
	return &metav1.Status{
		Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{
			Name:  obj.GetName(),
			Group: r.gr.Group,
			Kind:  r.gr.Resource, // Kubernetes says the resource here
			UID:   obj.GetUID(),
		},
	}
}

// propagation returns the finalizers with which the object waits for its
// dependents to be orphaned or deleted, as the options, the finalizers that it
// has, and the row's default ask, in this order.
func (r *resource) propagation(obj change.Object, options *metav1.DeleteOptions) []string {
	const orphan, foreground = metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents
	old := obj.GetFinalizers()
	if r.kind.Dependents.Unsupported {
		return old
	}
	// Once a graceful deletion is under way, its dependents' fate is sealed.
	if g := obj.GetDeletionGracePeriodSeconds(); obj.GetDeletionTimestamp() != nil && g != nil && *g > 0 {
		return old
	}
	want := ""
	//lint:ignore SA1019 old clients still send OrphanDependents
	switch legacy := options.OrphanDependents; {
	case legacy != nil:
		if *legacy {
			want = orphan
		}
	case options.PropagationPolicy != nil:
		switch *options.PropagationPolicy {
		case metav1.DeletePropagationOrphan:
			want = orphan
		case metav1.DeletePropagationForeground:
			want = foreground
		}
	default:
		if i := slices.IndexFunc(old, func(f string) bool { return f == orphan || f == foreground }); i >= 0 {
			want = old[i]
		} else if r.orphanByDefault() {
			want = orphan
		}
	}
	if want != "" && slices.Contains(old, want) {
		return old
	}
	kept := slices.DeleteFunc(slices.Clone(old), func(f string) bool { return f == orphan || f == foreground })
	if want != "" {
		kept = append(kept, want)
	}
	return kept
}

func (r *resource) orphanByDefault() bool {
	policy := r.kind.Dependents.Propagation
	if v := r.kind.Version(r.gv); v != nil && v.Propagation != "" {
		policy = v.Propagation
	}
	return policy == metav1.DeletePropagationOrphan
}

// deleteWorkers is how many objects of a collection are deleted at a time:
// their commits share the disk's syncs. Where somebody may refuse, it is one, as
// in Kubernetes: what comes after the first that is refused stays.
const deleteWorkers = 16

// DeleteCollection deletes the selected objects one by one, and returns them.
func (r *resource) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, listOptions *internalversion.ListOptions) (runtime.Object, error) {
	if options == nil {
		options = &metav1.DeleteOptions{}
	}
	r.warnOrphans(ctx, options)
	list, err := r.List(ctx, listOptions)
	if err != nil {
		return nil, err
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	workers := deleteWorkers
	if admission.Configured(r.store.View()) {
		workers = 1
	}
	return list, inParallel(ctx, items, workers, func(ctx context.Context, obj runtime.Object) error {
		o, ok := obj.(change.Object)
		if !ok {
			return apierrors.NewInternalError(fmt.Errorf("%T is no object", obj))
		}
		// The options of a deletion are changed by it.
		_, _, err := r.delete(ctx, o.GetName(), validate, options.DeepCopy())
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}
