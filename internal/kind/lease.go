package kind

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// Lease is the row of coordination.k8s.io/v1 leases.
func Lease() *Kind {
	return &Kind{
		Names: Names{
			Resource:   Leases,
			Singular:   "lease",
			Namespaced: true,
			GVK:        coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		},
		Types: Types{
			New:     func() Object { return &coordinationv1.Lease{} },
			NewList: func() runtime.Object { return &coordinationv1.LeaseList{} },
		},
		Create: Create{
			Prepare: changes(dropElection),
			Validate: checks(func(l *coordinationv1.Lease) field.ErrorList {
				return append(apivalidation.ValidateObjectMeta(&l.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata")), validateLeaseSpec(&l.Spec)...)
			}),
		},
		Update: Update{
			Prepare: updates(func(l, _ *coordinationv1.Lease) { dropElection(l) }),
			Validate: checksUpdate(func(l, old *coordinationv1.Lease) field.ErrorList {
				return append(apivalidation.ValidateObjectMetaUpdate(&l.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata")), validateLeaseSpec(&l.Spec)...)
			}),
			MayCreate:   true,
			Conditional: true,
		},
		Table: Printer{
			Columns: []metav1.TableColumnDefinition{
				nameColumn(),
				column("Holder", "string", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]),
				ageColumn(),
			},
			Cells: prints(func(l *coordinationv1.Lease, now time.Time) []any {
				return []any{l.Name, ptr.Deref(l.Spec.HolderIdentity, ""), age(l.CreationTimestamp, now)}
			}),
		},
	}
}

// dropElection drops the fields of coordinated leader election, which is off
// in Kubernetes unless asked for.
func dropElection(l *coordinationv1.Lease) {
	l.Spec.Strategy = nil
	l.Spec.PreferredHolder = nil
}

func validateLeaseSpec(spec *coordinationv1.LeaseSpec) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if ptr.Deref(spec.LeaseDurationSeconds, 1) <= 0 {
		errs = append(errs, field.Invalid(path.Child("leaseDurationSeconds"), spec.LeaseDurationSeconds, "must be greater than 0"))
	}
	if ptr.Deref(spec.LeaseTransitions, 0) < 0 {
		errs = append(errs, field.Invalid(path.Child("leaseTransitions"), spec.LeaseTransitions, "must be greater than or equal to 0"))
	}
	return errs
}
