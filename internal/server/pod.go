package server

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// binding is pods/binding: it puts a pod on a node.
type binding struct{ pods *resource }

var _ interface {
	rest.Storage
	rest.NamedCreater
	rest.SubresourceObjectMetaPreserver
} = &binding{}

// New implements rest.Storage.
func (b *binding) New() runtime.Object { return &corev1.Binding{} }

// Destroy implements rest.Storage.
func (b *binding) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (b *binding) NamespaceScoped() bool { return true }

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate keeps uid and
// resourceVersion of the request: they are preconditions.
func (b *binding) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// Create binds the pod called name, unless it is bound already.
func (b *binding) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	want := obj.(*corev1.Binding)
	if name != want.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if errs := podspec.ValidateBinding(want); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	if validate != nil {
		if err := validate(ctx, want); err != nil {
			return nil, err
		}
	}
	_, err := b.pods.change(ctx, podChange{
		name: name, uid: string(want.UID), revision: want.ResourceVersion, dryRun: dryrun.IsDryRun(options.DryRun),
		change: func(pod *corev1.Pod) error {
			if err := bind(pod, want, b.pods.now()); err != nil {
				return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, name, err)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

func bind(pod *corev1.Pod, b *corev1.Binding, now time.Time) error {
	switch {
	case pod.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return fmt.Errorf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return fmt.Errorf("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	pod.Spec.NodeName = b.Target.Name
	pod.Status.NominatedNodeName = ""
	merge(&pod.Annotations, b.Annotations)
	merge(&pod.Labels, b.Labels)
	podspec.SetCondition(&pod.Status, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now).Rfc3339Copy(),
	})
	return nil
}

func merge(into *map[string]string, more map[string]string) {
	if len(more) == 0 {
		return
	}
	if *into == nil {
		*into = make(map[string]string, len(more))
	}
	maps.Copy(*into, more)
}

// alone implements standsAlone.
func (b *binding) alone() (string, rest.Storage) { return "bindings", &legacyBinding{b} }

// legacyBinding is the resource bindings: the pod's name is the binding's.
type legacyBinding struct{ of *binding }

var _ interface {
	rest.Storage
	rest.Creater
	rest.Scoper
	rest.SingularNameProvider
} = &legacyBinding{}

// New implements rest.Storage.
func (l *legacyBinding) New() runtime.Object { return &corev1.Binding{} }

// Destroy implements rest.Storage.
func (l *legacyBinding) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (l *legacyBinding) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (l *legacyBinding) GetSingularName() string { return "binding" }

// Create binds the pod that the binding is called after.
func (l *legacyBinding) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	return l.of.Create(ctx, obj.(*corev1.Binding).Name, obj, validate, options)
}

// podChange is a change to one pod by the server itself, under the client's
// preconditions.
type podChange struct {
	name          string
	uid, revision string // "": any
	dryRun        bool
	change        func(pod *corev1.Pod) error
}

// change makes c to the pod and returns its new state.
func (r *resource) change(ctx context.Context, c podChange) (change.Object, error) {
	info := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		pod := old.(*corev1.Pod).DeepCopy()
		switch {
		case c.uid != "" && c.uid != string(pod.UID):
			//lint:ignore ST1005 Kubernetes' own words
			return nil, apierrors.NewConflict(r.gr, c.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", c.uid, pod.UID))
		case c.revision != "" && c.revision != pod.ResourceVersion:
			//lint:ignore ST1005 Kubernetes' own words
			return nil, apierrors.NewConflict(r.gr, c.name, fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", c.revision, pod.ResourceVersion))
		}
		return pod, c.change(pod)
	})
	// Neither the row's rules for users nor those for /status apply.
	rules := r.strategy.Through(kind.Update{})
	rules.RequireRevision = false
	u := &update{resource: r, rules: rules, subresource: true, name: c.name, info: info, dryRun: c.dryRun}
	obj, _, err := u.do(ctx)
	if err != nil {
		return nil, err
	}
	return obj.(change.Object), nil
}
