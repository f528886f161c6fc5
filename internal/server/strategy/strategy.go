// Package strategy gives the rules of a row the form in which k8s.io/apiserver wants
// them. It is a package of its own for kubediff, which holds them to Kubernetes'.
package strategy

import (
	"context"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/apiserver/pkg/warning"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Strategy is what k8s.io/apiserver's BeforeCreate and BeforeUpdate hold a write to.
// The zero functions do nothing.
type Strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	// RequireRevision refuses an update that does not say what it is an update of.
	RequireRevision bool
	// Request returns what rules have to know of the request in ctx; nil: nobody asks.
	Request func(ctx context.Context) *kind.Request

	namespaced          bool
	partial             bool // writes go through a subresource
	allowCreateOnUpdate bool

	create       kind.Create
	update       kind.Update
	canonicalize func(obj change.Object)
	warn         func(obj, old change.Object) []string
}

var _ interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
	rest.DeclarativeValidationStrategy
} = Strategy{}

// Of returns the rules for requests in version gv of the row.
func Of(scheme *runtime.Scheme, k *kind.Kind, gv schema.GroupVersion) Strategy {
	st := Strategy{
		ObjectTyper: scheme, NameGenerator: names.SimpleNameGenerator,
		namespaced: k.Namespaced, allowCreateOnUpdate: k.Update.MayCreate, RequireRevision: k.Update.Conditional,
		create: k.Create, update: k.Update, canonicalize: k.Canonicalize, warn: k.Warn,
	}
	if v := k.Version(gv); v != nil && v.Validate != nil {
		st.create.Validate = func(obj change.Object) field.ErrorList { return v.Validate(obj, nil) }
		st.update.Validate = v.Validate
		st.create.ValidateFor, st.update.ValidateFor = nil, nil
	}
	return st
}

// Through returns the rules for a write through a subresource.
func (s Strategy) Through(rules kind.Update) Strategy {
	s.allowCreateOnUpdate = false
	s.update, s.warn, s.partial = rules, nil, true
	return s
}

func (s Strategy) NamespaceScoped() bool                         { return s.namespaced }
func (s Strategy) AllowCreateOnUpdate(context.Context) bool      { return s.allowCreateOnUpdate }
func (s Strategy) AllowUnconditionalUpdate(context.Context) bool { return !s.RequireRevision }

// Canonicalize comes after the validation, of a create or an update.
func (s Strategy) Canonicalize(obj runtime.Object) {
	if s.canonicalize != nil {
		s.canonicalize(obj.(change.Object))
	}
}

func (s Strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	if s.create.Prepare != nil {
		s.create.Prepare(obj.(change.Object))
	}
	if s.create.Requester != nil {
		var by kind.Requester
		if u, ok := genericapirequest.UserFrom(ctx); ok {
			by = kind.Requester{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}
		}
		s.create.Requester(obj.(change.Object), by)
	}
}

func (s Strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	if s.update.Prepare != nil {
		s.update.Prepare(obj.(change.Object), old.(change.Object))
	}
}

// Signer is the row's. (kind.Update)
func (s Strategy) Signer(obj, old change.Object) (verb, signer string) {
	if s.update.Signer == nil {
		return "", ""
	}
	return s.update.Signer(obj, old)
}

func (s Strategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	switch {
	case s.create.ValidateFor != nil && s.Request != nil:
		return s.create.ValidateFor(s.Request(ctx), obj.(change.Object))
	case s.create.Validate != nil:
		return s.create.Validate(obj.(change.Object))
	}
	return nil
}

func (s Strategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	errs := s.validateUpdate(ctx, obj, old)
	if len(errs) > 0 && s.update.Advise != nil {
		for _, w := range s.update.Advise(obj.(change.Object), old.(change.Object), errs) {
			warning.AddWarning(ctx, "", w)
		}
	}
	return errs
}

func (s Strategy) validateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	switch {
	case s.update.ValidateFor != nil && s.Request != nil:
		return s.update.ValidateFor(s.Request(ctx), obj.(change.Object), old.(change.Object))
	case s.update.Validate != nil:
		return s.update.Validate(obj.(change.Object), old.(change.Object))
	}
	return nil
}

// ValidateDeclaratively has the last word about errs, all that is wrong with an
// object: what the tags of its types say is added, where the row does not say it itself,
// and equal errors are answered once.
func (s Strategy) ValidateDeclaratively(_ context.Context, obj, old runtime.Object, errs field.ErrorList, op operation.Type,
	_ rest.DeclarativeValidationConfig) field.ErrorList {
	switch {
	case op == operation.Create && s.create.Declared != nil:
		errs = s.create.Declared(obj.(change.Object), errs)
	case op == operation.Update && s.update.Declared != nil:
		errs = s.update.Declared(obj.(change.Object), old.(change.Object), errs)
	}
	return errs.Filter()
}

func (s Strategy) DeclarativeValidationConfig(context.Context, runtime.Object, runtime.Object) rest.DeclarativeValidationConfig {
	return rest.DeclarativeValidationConfig{}
}

func (s Strategy) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	return s.warnings(ctx, obj.(change.Object), nil)
}

func (s Strategy) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string {
	return s.warnings(ctx, obj.(change.Object), old.(change.Object))
}

func (s Strategy) warnings(ctx context.Context, obj, old change.Object) (all []string) {
	if s.warn != nil {
		all = s.warn(obj, old)
	}
	if s.Request != nil && !s.partial {
		all = append(all, kind.SecurityWarnings(s.Request(ctx), obj, old)...)
	}
	return all
}
