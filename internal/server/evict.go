package server

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
	"github.com/sampan-batch/sampan/internal/store"
)

// eviction is pods/eviction: a deletion that PodDisruptionBudgets may refuse.
type eviction struct{ pods *resource }

var _ interface {
	rest.Storage
	rest.NamedCreater
	rest.GroupVersionKindProvider
	rest.GroupVersionAcceptor
} = &eviction{}

// New implements rest.Storage.
func (e *eviction) New() runtime.Object { return &policyv1.Eviction{} }

// Destroy implements rest.Storage.
func (e *eviction) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (e *eviction) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return policyv1.SchemeGroupVersion.WithKind("Eviction")
}

// AcceptsGroupVersion implements rest.GroupVersionAcceptor: of policy/v1beta1, which is not
// served any more, there are evictions still.
func (e *eviction) AcceptsGroupVersion(gv schema.GroupVersion) bool {
	return gv == policyv1.SchemeGroupVersion || gv == policyv1beta1.SchemeGroupVersion
}

// Create says why the pod goes, and deletes it, if its budget allows that.
func (e *eviction) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	want := obj.(*policyv1.Eviction)
	if name != want.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	deletion := want.DeleteOptions
	switch {
	case deletion == nil:
		deletion = &metav1.DeleteOptions{DryRun: options.DryRun}
	case len(deletion.DryRun) == 0:
		deletion.DryRun = options.DryRun
	case len(options.DryRun) > 0 && !reflect.DeepEqual(options.DryRun, deletion.DryRun):
		//lint:ignore ST1005 Kubernetes' own words
		return nil, fmt.Errorf("Non-matching dry-run options in request and content: %v and %v", options.DryRun, deletion.DryRun)
	}
	if validate != nil {
		if err := validate(ctx, want); err != nil {
			return nil, err
		}
	}
	return e.evict(ctx, name, deletion)
}

// severalBudgets is the answer when two budgets guard the pod.
var severalBudgets = metav1.Status{
	Status:  metav1.StatusFailure,
	Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
	Code:    500,
}

// evict takes the pod from its budget and begins its deletion, in one commit, of one state.
func (e *eviction) evict(ctx context.Context, name string, options *metav1.DeleteOptions) (runtime.Object, error) {
	key, err := e.pods.key(ctx, name)
	if err != nil {
		return nil, err
	}
	for {
		view := e.pods.store.View()
		obj, ok := view.Get(key)
		if !ok {
			return nil, apierrors.NewNotFound(e.pods.gr, name)
		}
		pod := obj.(*corev1.Pod)
		if err := mayEvict(pod, options.Preconditions); err != nil {
			return nil, err
		}
		set := change.Set{}
		if !kind.Unguarded(pod) {
			budgets := kind.BudgetsOf(pod, view)
			if len(budgets) > 1 {
				several := severalBudgets
				return &several, nil
			}
			for _, budget := range budgets {
				spent, err := kind.Spend(budget, pod, e.pods.now())
				if err != nil {
					return nil, err
				}
				if spent != nil {
					set.Update(kind.PodDisruptionBudgets.Key(budget.Namespace, budget.Name), change.RevOf(budget), spent)
				}
			}
		}
		done, err := e.remove(ctx, pod, set, options)
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) {
			return done, err
		}
	}
}

// remove says in the pod why it goes, and has it go, with what set says already.
func (e *eviction) remove(ctx context.Context, pod *corev1.Pod, set change.Set, options *metav1.DeleteOptions) (runtime.Object, error) {
	options = options.DeepCopy()
	if err := e.pods.mayDelete(ctx, pod, nil, options); err != nil {
		return nil, err
	}
	next := pod.DeepCopy()
	podspec.SetCondition(&next.Status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
		Message: "Eviction API: evicting", LastTransitionTime: metav1.NewTime(e.pods.now()).Rfc3339Copy(),
	})
	write, ok := e.pods.removal(next, options)
	if !ok { // it is on its way already
		write = change.Write{Op: change.Update, Key: e.pods.kind.KeyOf(pod), Rev: revision(pod), Object: next}
	}
	set.Writes = append(set.Writes, write)
	done := &metav1.Status{Status: metav1.StatusSuccess}
	if dryrun.IsDryRun(options.DryRun) {
		return done, nil
	}
	_, err := e.pods.commit(ctx, set)
	return done, err
}

// mayEvict refuses to evict another pod than the client means, in the words of
// a deletion.
func mayEvict(pod *corev1.Pod, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	gr := schema.GroupResource{Resource: "Pod"}
	if p.UID != nil && *p.UID != pod.UID {
		return apierrors.NewConflict(gr, pod.Name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). "+
			"The object might have been deleted and then recreated", *p.UID, pod.UID))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != pod.ResourceVersion {
		return apierrors.NewConflict(gr, pod.Name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). "+
			"The object might have been modified", *p.ResourceVersion, pod.ResourceVersion))
	}
	return nil
}
