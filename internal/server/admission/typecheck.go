package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	applyv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	clientv1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// typeChecks says in the status of a ValidatingAdmissionPolicy which of its expressions do not fit
// the types that it is about: Kubernetes' controller "validatingadmissionpolicy-status", by its
// checker. It changes nothing of how the policy judges.
type typeChecks struct {
	o        *Options
	checker  *validatingpolicy.TypeChecker
	policies clientv1.ValidatingAdmissionPolicyInterface
}

const (
	typeChecker = "validatingadmissionpolicy-status"
	// firstWait and lastWait are between which a status that is not taken is written again.
	firstWait = 250 * time.Millisecond
	lastWait  = 30 * time.Second
)

// Run has the types in policies checked until ctx ends. Who has none pays for a watch in which
// nothing happens.
func (j *Judge) Run(ctx context.Context) {
	checks := &typeChecks{o: &j.o}
	for ctx.Err() == nil {
		view := j.o.Store.View()
		watch, err := j.o.Store.Watch(kind.ValidatingAdmissionPolicies, view.Rev())
		if err == nil {
			for policy := range view.List(kind.ValidatingAdmissionPolicies, "") {
				checks.look(ctx, policy.GetName())
			}
		}
		for err == nil {
			var events []store.Event
			events, _, err = watch.Next(ctx)
			for i := range events {
				checks.look(ctx, events[i].Key.Name)
			}
		}
		if !errors.Is(err, store.ErrGone) {
			return
		}
	}
}

// look checks a policy as it is now, unless that was done.
func (c *typeChecks) look(ctx context.Context, name string) {
	for wait := firstWait; ; wait *= 2 {
		obj, ok := c.o.Store.View().Get(kind.ValidatingAdmissionPolicies.Key("", name))
		if !ok {
			return
		}
		policy := obj.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		if policy.Generation <= policy.Status.ObservedGeneration {
			return
		}
		err := c.check(ctx, policy)
		if err == nil || apierrors.IsNotFound(err) || ctx.Err() != nil {
			return
		}
		if wait > lastWait { // its next change is another occasion
			utilruntime.HandleError(fmt.Errorf("the types in ValidatingAdmissionPolicy %q: %w", name, err))
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// check writes what is wrong with a policy into its status.
func (c *typeChecks) check(ctx context.Context, policy *admissionregistrationv1.ValidatingAdmissionPolicy) error {
	if err := c.begin(); err != nil {
		return err
	}
	types := applyv1.TypeChecking()
	for _, w := range c.warnings(ctx, policy) {
		types.WithExpressionWarnings(applyv1.ExpressionWarning().WithFieldRef(w.FieldRef).WithWarning(w.Warning))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	status := applyv1.ValidatingAdmissionPolicyStatus().WithObservedGeneration(policy.Generation).WithTypeChecking(types)
	_, err := c.policies.ApplyStatus(ctx, applyv1.ValidatingAdmissionPolicy(policy.Name).WithStatus(status),
		metav1.ApplyOptions{FieldManager: typeChecker, Force: true})
	return err
}

// warnings are TypeChecker.Check's, which does not end before it has seen all.
func (c *typeChecks) warnings(ctx context.Context, policy *admissionregistrationv1.ValidatingAdmissionPolicy) (all []admissionregistrationv1.ExpressionWarning) {
	about := c.checker.CreateContext(policy)
	look := func(at *field.Path, expression string) {
		if expression == "" || ctx.Err() != nil {
			return
		}
		if results := c.checker.CheckExpression(about, expression); len(results) > 0 {
			all = append(all, admissionregistrationv1.ExpressionWarning{FieldRef: at.String(), Warning: results.String()})
		}
	}
	validations := field.NewPath("spec", "validations")
	for i, v := range policy.Spec.Validations {
		look(validations.Index(i).Child("expression"), v.Expression)
		look(validations.Index(i).Child("messageExpression"), v.MessageExpression)
	}
	return all
}

// begin makes what checks, when there is something to check.
func (c *typeChecks) begin() error {
	if c.checker != nil {
		return nil
	}
	client, err := clientv1.NewForConfig(c.o.Loopback)
	if err != nil {
		return err
	}
	c.policies = client.ValidatingAdmissionPolicies()
	c.checker = &validatingpolicy.TypeChecker{SchemaResolver: schemas(c.o.Schemas), RestMapper: mapper{kinds: c.o.Kinds}}
	return nil
}

// schemas implements resolver.SchemaResolver.
type schemas func(schema.GroupVersionKind) (*spec.Schema, error)

// ResolveSchema implements resolver.SchemaResolver.
func (s schemas) ResolveSchema(gvk schema.GroupVersionKind) (*spec.Schema, error) { return s(gvk) }

// mapper knows which kinds resources are, which is all that the checker asks.
type mapper struct {
	meta.RESTMapper
	kinds *kind.Kinds
}

// KindsFor implements meta.RESTMapper.
func (m mapper) KindsFor(gvr schema.GroupVersionResource) (found []schema.GroupVersionKind, err error) {
	for _, k := range m.kinds.All() {
		if k.Plural() != gvr.Resource && k.Singular != gvr.Resource {
			continue
		}
		for _, gvk := range k.GVKs() {
			if gvk.GroupVersion() == gvr.GroupVersion() {
				found = append(found, gvk)
			}
		}
	}
	if len(found) == 0 {
		return nil, &meta.NoResourceMatchError{PartialResource: gvr}
	}
	return found, nil
}
