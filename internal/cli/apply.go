package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/kind"
)

// fieldManager is the name under which this command line owns fields.
const fieldManager = "sampan"

// checkRunnable refuses manifests that `sampan run` could never finish.
func checkRunnable(manifests []manifest) error {
	jobs := 0
	var kinds []string
	for _, m := range manifests {
		gvk := m.GroupVersionKind()
		if !slices.Contains(kinds, gvk.Kind) {
			kinds = append(kinds, gvk.Kind)
		}
		switch {
		case gvk.Group == "batch" && gvk.Kind == "CronJob":
			return fmt.Errorf("%s: cronjob/%s has no end; give it to `sampan serve` with kubectl", m.Where, m.GetName())
		case gvk.Group == "batch" && gvk.Kind == "Job":
			jobs++
		}
	}
	if jobs == 0 {
		return fmt.Errorf("there is no Job in the manifests, only %s; `sampan run` follows Jobs to their end", strings.Join(kinds, ", "))
	}
	return nil
}

// applier creates the objects of manifests.
type applier struct {
	client    dynamic.Interface
	kinds     *kind.Kinds
	namespace string
	out       *console
}

// apply checks all manifests by a dry run first, so that nothing starts when
// one of them is wrong, then creates them. It returns the Jobs.
func apply(ctx context.Context, config *rest.Config, manifests []manifest, namespace string, out *console) ([]*batchv1.Job, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	a := &applier{client: client, kinds: kind.NewKinds(kind.Table()), namespace: namespace, out: out}
	// What Jobs read comes before Jobs, whatever the order of the files.
	slices.SortStableFunc(manifests, func(x, y manifest) int { return cmp.Compare(rank(x), rank(y)) })
	if err := a.namespaces(ctx, manifests); err != nil {
		return nil, err
	}
	for _, m := range manifests {
		if _, err := a.create(ctx, m, metav1.DryRunAll); err != nil {
			return nil, usage(err)
		}
	}
	var jobs []*batchv1.Job
	for _, m := range manifests {
		created, err := a.create(ctx, m)
		if err != nil {
			return nil, usage(err)
		}
		if created == nil || created.GetKind() != "Job" {
			continue
		}
		var job batchv1.Job
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(created.Object, &job); err != nil {
			return nil, err
		}
		jobs = append(jobs, &job)
	}
	return jobs, nil
}

func rank(m manifest) int {
	switch m.GetKind() {
	case "Namespace":
		return 0
	case "Job":
		return 2
	}
	return 1
}

// namespaces creates those that the manifests use; nobody else will.
func (a *applier) namespaces(ctx context.Context, manifests []manifest) error {
	named := map[string]bool{metav1.NamespaceDefault: true}
	for _, m := range manifests {
		if m.GetKind() == "Namespace" {
			named[m.GetName()] = true
		}
	}
	for _, m := range manifests {
		k := a.kinds.ByGVK(m.GroupVersionKind())
		if k == nil || !k.Namespaced {
			continue
		}
		ns := cmp.Or(m.GetNamespace(), a.namespace)
		if named[ns] {
			continue
		}
		named[ns] = true
		obj := &unstructured.Unstructured{}
		obj.SetAPIVersion("v1")
		obj.SetKind("Namespace")
		obj.SetName(ns)
		_, err := a.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).
			Create(ctx, obj, metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return usage(fmt.Errorf("%s: namespace %q: %w", m.Where, ns, err))
		}
	}
	return nil
}

// create creates one object; nil when it is a namespace that exists.
func (a *applier) create(ctx context.Context, m manifest, dryRun ...string) (*unstructured.Unstructured, error) {
	gvk := m.GroupVersionKind()
	k := a.kinds.ByGVK(gvk)
	if k == nil {
		return nil, fmt.Errorf("%s: no matches for kind %q in version %q", m.Where, gvk.Kind, gvk.GroupVersion())
	}
	target := a.client.Resource(gvk.GroupVersion().WithResource(k.Resource))
	var resource dynamic.ResourceInterface = target
	if k.Namespaced {
		resource = target.Namespace(cmp.Or(m.GetNamespace(), a.namespace))
	}
	created, err := resource.Create(ctx, m.DeepCopy(), metav1.CreateOptions{
		FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun,
	})
	if apierrors.IsAlreadyExists(err) && gvk.Kind == "Namespace" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Where, err)
	}
	return created, nil
}
