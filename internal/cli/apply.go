package cli

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/plan"
)

// fieldManager is the name under which this command line owns fields.
const fieldManager = "sampan"

// apply creates what the works of a plan need, and returns what runs beside them. Where it
// goes on with an earlier run, some is there. An error leaves behind what was created before.
func apply(ctx context.Context, config *rest.Config, p *plan.Plan, goesOn bool) (companions []kind.Object, err error) {
	config = rest.CopyConfig(config)
	config.ContentType = "" // what is of any kind has no other encoding
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	for _, name := range p.Namespaces {
		namespace := plan.Object{Kind: kind.Namespace(), Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}}
		if _, err := create(ctx, client, namespace); err != nil {
			return nil, fmt.Errorf("namespace %q: %w", name, err)
		}
	}
	for _, o := range p.Objects {
		if o.Role == plan.Work {
			continue // has its turn
		}
		obj, err := create(ctx, client, o)
		if apierrors.IsAlreadyExists(err) && goesOn {
			if o.Role == plan.Support {
				continue
			}
			obj, err = replace(ctx, client, o) // one of the earlier run
		}
		if err != nil {
			return companions, fmt.Errorf("%s: %w", o.Where, err)
		}
		if o.Role == plan.Companion {
			companions = append(companions, obj)
		}
	}
	return companions, nil
}

// replace creates a pod anew, and returns what makes pods as it is: they are new.
func replace(ctx context.Context, client dynamic.Interface, o plan.Object) (kind.Object, error) {
	at := client.Resource(o.Kind.GVK.GroupVersion().WithResource(o.Kind.Plural())).Namespace(o.GetNamespace())
	if _, pod := o.Object.(*corev1.Pod); !pod {
		got, err := at.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return typed(o, got)
	}
	err := at.Delete(ctx, o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	return create(ctx, client, o)
}

// create creates one object, and returns it. A namespace may be there.
func create(ctx context.Context, client dynamic.Interface, o plan.Object) (kind.Object, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.Object)
	if err != nil {
		return nil, err
	}
	delete(fields, "status")
	obj := &unstructured.Unstructured{Object: fields}
	obj.SetGroupVersionKind(o.Kind.GVK)
	target := client.Resource(o.Kind.GVK.GroupVersion().WithResource(o.Kind.Plural()))
	var resource dynamic.ResourceInterface = target
	if o.Kind.Namespaced {
		resource = target.Namespace(o.GetNamespace())
	}
	got, err := resource.Create(ctx, obj, strict)
	if apierrors.IsAlreadyExists(err) && o.Kind.Resource == kind.ServiceAccounts && o.GetName() == "default" {
		got, err = resource.Update(ctx, obj, metav1.UpdateOptions{FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict}) // each namespace has one
	}
	if apierrors.IsAlreadyExists(err) && o.Kind.Resource == "namespaces" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return typed(o, got)
}

// typed is an object that the API has answered with.
func typed(o plan.Object, got *unstructured.Unstructured) (kind.Object, error) {
	obj := o.Kind.New()
	return obj, runtime.DefaultUnstructuredConverter.FromUnstructured(got.Object, obj)
}
