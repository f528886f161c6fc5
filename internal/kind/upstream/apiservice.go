package upstream

import (
	"context"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kube-aggregator/pkg/registry/apiservice"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// APIServices returns the strategies of writes of APIServices, and of their status.
func APIServices() (write, status Strategy) {
	main := apiServices{apiservice.NewStrategy(nil)}
	return main, apiServiceStatus{main, apiservice.NewStatusStrategy(nil)}
}

// apiServices are kube-aggregator's rules of a write. Its types have no validation in tags.
type apiServices struct {
	rest.RESTCreateUpdateStrategy
}

// ValidateDeclaratively implements rest.DeclarativeValidationStrategy.
func (apiServices) ValidateDeclaratively(_ context.Context, _, _ runtime.Object, errs field.ErrorList, _ operation.Type, _ rest.DeclarativeValidationConfig) field.ErrorList {
	return errs
}

// DeclarativeValidationConfig implements rest.DeclarativeValidationStrategy.
func (apiServices) DeclarativeValidationConfig(context.Context, runtime.Object, runtime.Object) rest.DeclarativeValidationConfig {
	return rest.DeclarativeValidationConfig{}
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s apiServices) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.RESTCreateUpdateStrategy.(rest.ResetFieldsStrategy).GetResetFields()
}

// apiServiceStatus are those of a write of the status.
type apiServiceStatus struct {
	apiServices
	status rest.UpdateResetFieldsStrategy
}

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (s apiServiceStatus) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	s.status.PrepareForUpdate(ctx, obj, old)
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (s apiServiceStatus) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	return s.status.ValidateUpdate(ctx, obj, old)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s apiServiceStatus) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.status.GetResetFields()
}
