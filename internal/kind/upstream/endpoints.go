package upstream

import (
	"context"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryvalidation "k8s.io/kubernetes/pkg/apis/discovery/validation"
)

// Kubernetes' strategies of Endpoints and EndpointSlices import its controllers, for the
// name of one each: with them came all that a controller needs. What these strategies do is
// here; the validation is Kubernetes'. (kubediff compares them.)

// Endpoints is the strategy of Endpoints.
func Endpoints() Strategy { return endpoints{base()} }

// EndpointSlice is the strategy of discovery.k8s.io/v1 EndpointSlices.
func EndpointSlice() Strategy { return endpointSlice{base()} }

// plain is what strategies have in common that do nothing special: namespaced objects,
// which a PUT may change without saying of what state.
type plain struct {
	rest.DeclarativeValidation
	names.NameGenerator
}

func base() plain {
	return plain{rest.DeclarativeValidation{Scheme: legacyscheme.Scheme}, names.SimpleNameGenerator}
}

func (plain) NamespaceScoped() bool                                       { return true }
func (plain) AllowCreateOnUpdate(context.Context) bool                    { return false }
func (plain) AllowUnconditionalUpdate(context.Context) bool               { return true }
func (plain) Canonicalize(runtime.Object)                                 {}
func (plain) PrepareForCreate(context.Context, runtime.Object)            {}
func (plain) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {}

type endpoints struct{ plain }

// AllowCreateOnUpdate overrides plain's.
func (endpoints) AllowCreateOnUpdate(context.Context) bool { return true }

func (endpoints) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return corevalidation.ValidateEndpointsCreate(obj.(*core.Endpoints))
}

func (endpoints) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return corevalidation.ValidateEndpointsUpdate(obj.(*core.Endpoints), old.(*core.Endpoints))
}

func (s endpoints) WarningsOnUpdate(ctx context.Context, obj, _ runtime.Object) []string {
	return s.WarningsOnCreate(ctx, obj)
}

func (endpoints) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	e := obj.(*core.Endpoints)
	if e.Labels["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
		return nil // it mends what would be warned of
	}
	var warnings []string
	for i, subset := range e.Subsets {
		path := field.NewPath("subsets").Index(i)
		for j, address := range subset.Addresses {
			warnings = append(warnings, utilvalidation.GetWarningsForIP(path.Child("addresses").Index(j).Child("ip"), address.IP)...)
		}
		for j, address := range subset.NotReadyAddresses {
			warnings = append(warnings, utilvalidation.GetWarningsForIP(path.Child("notReadyAddresses").Index(j).Child("ip"), address.IP)...)
		}
	}
	return warnings
}

type endpointSlice struct{ plain }

func (endpointSlice) PrepareForCreate(_ context.Context, obj runtime.Object) {
	s := obj.(*discovery.EndpointSlice)
	s.Generation = 1
	dropTopology(s)
}

func (endpointSlice) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	s, before := obj.(*discovery.EndpointSlice), old.(*discovery.EndpointSlice)
	bare, bareBefore := *s, *before
	bare.ObjectMeta, bareBefore.ObjectMeta = metav1.ObjectMeta{}, metav1.ObjectMeta{}
	if !equality.Semantic.DeepEqual(bare, bareBefore) || !equality.Semantic.DeepEqual(s.Labels, before.Labels) {
		s.Generation = before.Generation + 1
	}
	if !equality.Semantic.DeepEqual(before.Endpoints, s.Endpoints) {
		dropTopology(s)
	}
}

// dropTopology takes off what v1 documents as not to be written. (Nothing here was written
// by way of v1beta1, where a topology could name the node.)
func dropTopology(s *discovery.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

func (endpointSlice) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return discoveryvalidation.ValidateEndpointSliceCreate(obj.(*discovery.EndpointSlice))
}

func (endpointSlice) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return discoveryvalidation.ValidateEndpointSliceUpdate(obj.(*discovery.EndpointSlice), old.(*discovery.EndpointSlice))
}

func (endpointSlice) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	s := obj.(*discovery.EndpointSlice)
	if s.AddressType == discovery.AddressTypeFQDN {
		return append([]string{"spec.addressType: FQDN endpoints are deprecated"}, badAddresses(s)...)
	}
	return badAddresses(s)
}

func (endpointSlice) WarningsOnUpdate(_ context.Context, obj, _ runtime.Object) []string {
	return badAddresses(obj.(*discovery.EndpointSlice))
}

func badAddresses(s *discovery.EndpointSlice) []string {
	switch s.Labels[discoveryv1.LabelManagedBy] {
	case "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io":
		return nil // they mend what would be warned of
	}
	var warnings []string
	for i, e := range s.Endpoints {
		for j, address := range e.Addresses {
			path := field.NewPath("endpoints").Index(i).Child("addresses").Index(j)
			warnings = append(warnings, utilvalidation.GetWarningsForIP(path, address)...)
		}
	}
	return warnings
}
