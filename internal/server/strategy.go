package server

import (
	"context"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// strategy gives a row the form in which k8s.io/apiserver's BeforeCreate and
// BeforeUpdate want their rules. The zero functions do nothing.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	namespaced          bool
	allowCreateOnUpdate bool
	requireRevision     bool

	prepareCreate  func(obj change.Object)
	prepareUpdate  func(obj, old change.Object)
	validateCreate func(obj change.Object) field.ErrorList
	validateUpdate func(obj, old change.Object) field.ErrorList
	warn           func(obj, old change.Object) []string
}

var _ interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
	rest.DeclarativeValidationStrategy
} = strategy{}

// newStrategy returns the rules for requests in version gv of the row.
func newStrategy(scheme *runtime.Scheme, k *kind.Kind, gv schema.GroupVersion) strategy {
	st := strategy{
		ObjectTyper: scheme, NameGenerator: names.SimpleNameGenerator,
		namespaced: k.Namespaced, allowCreateOnUpdate: k.Update.MayCreate, requireRevision: k.Update.Conditional,
		prepareCreate: k.Create.Prepare, prepareUpdate: k.Update.Prepare,
		validateCreate: k.Create.Validate, validateUpdate: k.Update.Validate, warn: k.Warn,
	}
	if v := k.Version(gv); v != nil && v.Validate != nil {
		st.validateCreate = func(obj change.Object) field.ErrorList { return v.Validate(obj, nil) }
		st.validateUpdate = v.Validate
	}
	return st
}

// through returns the rules for a write through a subresource.
func (s strategy) through(rules kind.Update) strategy {
	s.allowCreateOnUpdate = false
	s.prepareUpdate, s.validateUpdate, s.warn = rules.Prepare, rules.Validate, nil
	return s
}

func (s strategy) NamespaceScoped() bool                         { return s.namespaced }
func (s strategy) AllowCreateOnUpdate(context.Context) bool      { return s.allowCreateOnUpdate }
func (s strategy) AllowUnconditionalUpdate(context.Context) bool { return !s.requireRevision }
func (s strategy) Canonicalize(runtime.Object)                   {}

func (s strategy) PrepareForCreate(_ context.Context, obj runtime.Object) {
	if s.prepareCreate != nil {
		s.prepareCreate(obj.(change.Object))
	}
}

func (s strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	if s.prepareUpdate != nil {
		s.prepareUpdate(obj.(change.Object), old.(change.Object))
	}
}

func (s strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	if s.validateCreate == nil {
		return nil
	}
	return s.validateCreate(obj.(change.Object))
}

func (s strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	if s.validateUpdate == nil {
		return nil
	}
	return s.validateUpdate(obj.(change.Object), old.(change.Object))
}

// ValidateDeclaratively has the last word about errs, all that is wrong with an
// object. Kubernetes adds what the tags of its types say, which is in the rows here,
// and answers equal errors once.
func (s strategy) ValidateDeclaratively(_ context.Context, _, _ runtime.Object, errs field.ErrorList, _ operation.Type,
	_ rest.DeclarativeValidationConfig) field.ErrorList {
	return errs.Filter()
}

func (s strategy) DeclarativeValidationConfig(context.Context, runtime.Object, runtime.Object) rest.DeclarativeValidationConfig {
	return rest.DeclarativeValidationConfig{}
}

func (s strategy) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	if s.warn == nil {
		return nil
	}
	return s.warn(obj.(change.Object), nil)
}

func (s strategy) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	if s.warn == nil {
		return nil
	}
	return s.warn(obj.(change.Object), old.(change.Object))
}
