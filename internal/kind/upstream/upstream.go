// Package upstream calls Kubernetes' own code for the rows of package kind whose rules
// are not written out there (docs/adr/0013): defaults, what the strategies of
// kube-apiserver prepare, validate and warn of, and how kubectl's tables print an object.
//
// That code works on types of its own, the "internal" ones. An object is turned into one
// for each call, which shares nearly all that it points to and takes a microsecond, and
// back when the call has changed it. Who hands an object over to be changed owns it, and
// all that it points to.
//
// A start pays for the Go types only: the scheme, with conversions, defaults and
// declarative validations, and the printers are made when they are first asked for.
package upstream

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Strategy is what kube-apiserver holds the writes of a resource to, or of its status.
type Strategy interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
	rest.DeclarativeValidationStrategy
}

// Rules are those of a strategy for objects of one version.
type Rules struct {
	gvk      schema.GroupVersionKind
	strategy Strategy
	// ctx says to the strategy which request it is asked about: one for the version.
	ctx context.Context
}

// Of returns the rules of a strategy for objects of gvk. resource is the plural,
// subresource "" or "status".
func Of(gvk schema.GroupVersionKind, resource, subresource string, strategy Strategy) *Rules {
	info := &genericapirequest.RequestInfo{
		IsResourceRequest: true, APIGroup: gvk.Group, APIVersion: gvk.Version, Resource: resource, Subresource: subresource,
	}
	return &Rules{gvk: gvk, strategy: strategy, ctx: genericapirequest.WithRequestInfo(context.Background(), info)}
}

// For returns the rules as they are for a request.
func (r *Rules) For(req *Request) *Rules {
	rules := *r
	rules.ctx = context.WithValue(req.Context, requestKey{}, req)
	if s, ok := r.strategy.(perRequest); ok {
		rules.strategy = s.of(req)
	}
	return &rules
}

// Namespaced reports whether the objects are in namespaces.
func (r *Rules) Namespaced() bool { return r.strategy.NamespaceScoped() }

// MayCreate reports whether a PUT creates what is not there.
func (r *Rules) MayCreate() bool { return r.strategy.AllowCreateOnUpdate(r.ctx) }

// Conditional reports whether a PUT has to say what it is an update of.
func (r *Rules) Conditional() bool { return !r.strategy.AllowUnconditionalUpdate(r.ctx) }

// PrepareNew does to a new object what comes before its validation.
func (r *Rules) PrepareNew(obj runtime.Object) {
	change(obj, r.gvk.GroupVersion(), func(in runtime.Object) { r.strategy.PrepareForCreate(r.ctx, in) })
}

// Prepare does it to a changed one.
func (r *Rules) Prepare(obj, old runtime.Object) {
	before := internal(old)
	change(obj, r.gvk.GroupVersion(), func(in runtime.Object) { r.strategy.PrepareForUpdate(r.ctx, in, before) })
}

// ValidateNew returns what is wrong with a new object by what is written out in
// functions, not in the tags of types.
func (r *Rules) ValidateNew(obj runtime.Object) field.ErrorList {
	return r.strategy.Validate(r.ctx, internal(obj))
}

// Validate does the same with a changed object.
func (r *Rules) Validate(obj, old runtime.Object) field.ErrorList {
	return r.strategy.ValidateUpdate(r.ctx, internal(obj), internal(old))
}

// Declared returns errs, all that was found wrong with an object, together with what the
// tags of its types say. old is nil if the object is new.
func (r *Rules) Declared(obj, old runtime.Object, errs field.ErrorList) field.ErrorList {
	in, before, op := internal(obj), runtime.Object(nil), operation.Create
	if old != nil {
		before, op = internal(old), operation.Update
	}
	config := r.strategy.DeclarativeValidationConfig(r.ctx, in, before)
	return r.strategy.ValidateDeclaratively(r.ctx, in, before, errs, op, config)
}

// WarnOfNew returns what a client that creates obj is to be told.
func (r *Rules) WarnOfNew(obj runtime.Object) []string {
	return r.strategy.WarningsOnCreate(r.ctx, internal(obj))
}

// Warn returns what a client that changes old into obj is to be told.
func (r *Rules) Warn(obj, old runtime.Object) []string {
	return r.strategy.WarningsOnUpdate(r.ctx, internal(obj), internal(old))
}

// Canonicalize gives an object that was found valid the form in which it is kept, and
// what Kubernetes adds when it reads it from there: defaults of what was not set before.
func (r *Rules) Canonicalize(obj runtime.Object) {
	change(obj, r.gvk.GroupVersion(), r.strategy.Canonicalize)
	Default(obj)
}

// ResetFields are the fields that a write does not change, by version.
func (r *Rules) ResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if s, ok := r.strategy.(rest.ResetFieldsStrategy); ok {
		return s.GetResetFields()
	}
	return nil
}

// ResetFilter says, by version, which fields a write of a part changes.
func (r *Rules) ResetFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	if s, ok := r.strategy.(rest.ResetFieldsFilterStrategy); ok {
		return s.GetResetFieldsFilter()
	}
	return nil
}

// change lets do work on obj, which is of version gv.
func change(obj runtime.Object, gv schema.GroupVersion, do func(in runtime.Object)) {
	in := internal(obj)
	do(in)
	out, err := scheme().UnsafeConvertToVersion(in, gv)
	if err != nil {
		panic(fmt.Sprintf("upstream: %T in %s: %v", in, gv, err)) // it was one
	}
	said := obj.GetObjectKind().GroupVersionKind()
	reflect.ValueOf(obj).Elem().Set(reflect.ValueOf(out).Elem())
	obj.GetObjectKind().SetGroupVersionKind(said)
}

// internal returns obj as the type on which Kubernetes works, sharing what it points to.
func internal(obj runtime.Object) runtime.Object {
	kinds, _, err := scheme().ObjectKinds(obj)
	if err == nil {
		var in runtime.Object
		group := schema.GroupVersion{Group: kinds[0].Group, Version: runtime.APIVersionInternal}
		if in, err = scheme().UnsafeConvertToVersion(obj, group); err == nil {
			return in
		}
	}
	panic(fmt.Sprintf("upstream: %T: %v", obj, err)) // no group of that type in scheme()
}

// Default fills in what obj leaves out.
func Default(obj runtime.Object) { scheme().Default(obj) }

// Convert makes out, of another version, what in is.
func Convert(in, out runtime.Object) error {
	said := out.GetObjectKind().GroupVersionKind()
	err := scheme().Convert(internal(in), out, nil)
	out.GetObjectKind().SetGroupVersionKind(said)
	return err
}
