package server

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// scale is the /scale of a resource: how many replicas an object has, in the same form for
// all kinds that have any. What is written through it is a write of the object.
type scale struct {
	of    *resource
	table rest.TableConvertor
}

func newScale(of *resource) *scale {
	return &scale{of, &table{kind: &kind.Kind{Table: kind.ScalePrinter()}, now: of.now}}
}

var _ interface {
	rest.Patcher
	rest.TableConvertor
	rest.GroupVersionKindProvider
	rest.Storage
} = &scale{}

// New implements rest.Storage.
func (s *scale) New() runtime.Object { return &autoscalingv1.Scale{} }

// Destroy implements rest.Storage.
func (s *scale) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (s *scale) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind { return kind.ScaleKind }

// Get returns the scale of an object.
func (s *scale) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	obj, err := s.of.Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	return s.read(obj)
}

func (s *scale) read(obj runtime.Object) (*autoscalingv1.Scale, error) {
	found, err := s.of.kind.Scale.Of(obj.(change.Object))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return found, nil
}

// Update changes the number of replicas only.
func (s *scale) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validateUpdate rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	var validate rest.ValidateObjectUpdateFunc
	if validateUpdate != nil {
		validate = func(ctx context.Context, obj, old runtime.Object) error {
			next, err := s.read(obj)
			if err != nil {
				return err
			}
			before, err := s.read(old)
			if err != nil {
				return err
			}
			return validateUpdate(ctx, next, before)
		}
	}
	obj, _, err := s.of.updateThrough(ctx, &s.of.kind.Update, name, scaledObject{info, s}, validate, options)
	if apierrors.IsNotFound(err) {
		err = apierrors.NewNotFound(s.gr(), name)
	}
	if err != nil {
		return nil, false, err
	}
	scaled, err := s.read(obj)
	return scaled, false, err
}

// gr is how errors name the subresource.
func (s *scale) gr() schema.GroupResource {
	return schema.GroupResource{Group: s.of.gr.Group, Resource: s.of.gr.Resource + "/scale"}
}

// ConvertToTable prints a scale.
func (s *scale) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return s.table.ConvertToTable(ctx, obj, options)
}

// scaledObject is what a client's change of a scale makes of the object.
type scaledObject struct {
	rest.UpdatedObjectInfo
	scale *scale
}

// UpdatedObject lets the client change the scale of old, and changes old, which it owns,
// accordingly. Who manages which field of the object is translated there and back.
func (o scaledObject) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	obj := old.(change.Object)
	gv := o.scale.of.gv
	managers := managedfields.NewScaleHandler(obj.GetManagedFields(), gv, managedfields.ResourcePathMappings{
		gv.String(): fieldpath.MakePathOrDie("spec", "replicas"),
	})
	before, err := o.scale.read(obj)
	if err != nil {
		return nil, err
	}
	if before.ManagedFields, err = managers.ToSubresource(); err != nil {
		return nil, err
	}
	updated, err := o.UpdatedObjectInfo.UpdatedObject(ctx, before.DeepCopy())
	if err != nil {
		return nil, err
	}
	next, ok := updated.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected input object type to be Scale, but %T", updated))
	}
	if errs := kind.ValidateScale(next, before); len(errs) > 0 {
		return nil, apierrors.NewInvalid(kind.ScaleKind.GroupKind(), obj.GetName(), errs)
	}
	if next.UID != "" && next.UID != obj.GetUID() {
		//lint:ignore ST1005 Kubernetes' own words
		return nil, apierrors.NewConflict(o.scale.gr(), obj.GetName(), fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", next.UID, obj.GetUID()))
	}
	o.scale.of.kind.Scale.Set(obj, next.Spec.Replicas)
	obj.SetResourceVersion(next.ResourceVersion)
	entries, err := managers.ToParent(next.ManagedFields)
	if err != nil {
		return nil, err
	}
	obj.SetManagedFields(entries)
	return obj, nil
}
