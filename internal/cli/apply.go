package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/plan"
)

// fieldManager is the name under which this command line owns fields.
const fieldManager = "sampan"

// created are the objects of a plan that are there.
type created struct {
	// works are followed to their end; companions run as long as they do.
	works, companions []started
}

// all are those that have pods, or are.
func (c *created) all() []started { return slices.Concat(c.works, c.companions) }

// apply creates the objects of a plan. An error leaves behind what was created before:
// done has it.
func apply(ctx context.Context, config *rest.Config, p *plan.Plan) (done *created, err error) {
	done = &created{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return done, err
	}
	for _, name := range p.Namespaces {
		namespace := plan.Object{Kind: kind.Namespace(), Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}}
		if _, err := create(ctx, client, namespace); err != nil {
			return done, fmt.Errorf("namespace %q: %w", name, err)
		}
	}
	for _, o := range p.Objects {
		at := time.Now()
		obj, err := create(ctx, client, o)
		if err != nil {
			return done, fmt.Errorf("%s: %w", o.Where, err)
		}
		switch o.Role {
		case plan.Work:
			done.works = append(done.works, started{obj, at})
		case plan.Companion:
			done.companions = append(done.companions, started{obj, at})
		}
	}
	return done, nil
}

// create creates one object, and returns it if it is one that runs. A namespace may be
// there.
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
	if apierrors.IsAlreadyExists(err) && o.Kind.Resource == "namespaces" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var typed kind.Object
	switch o.Object.(type) {
	case *batchv1.Job:
		typed = &batchv1.Job{}
	case *corev1.Pod:
		typed = &corev1.Pod{}
	default:
		return nil, nil
	}
	return typed, runtime.DefaultUnstructuredConverter.FromUnstructured(got.Object, typed)
}
