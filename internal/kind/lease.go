package kind

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Lease is the row of coordination.k8s.io/v1 leases.
func Lease() *Kind {
	return &Kind{
		Resource:            "leases",
		Singular:            "lease",
		Namespaced:          true,
		GVK:                 coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		AllowCreateOnUpdate: true,
		New:                 func() Object { return &coordinationv1.Lease{} },
		NewList:             func() runtime.Object { return &coordinationv1.LeaseList{} },
	}
}
