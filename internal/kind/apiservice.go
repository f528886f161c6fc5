package kind

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// APIService is the row of apiregistration.k8s.io/v1 apiservices.
func APIService() *Kind {
	write, status := upstream.APIServices()
	k := kubernetes[apiregistrationv1.APIService, apiregistrationv1.APIServiceList](Names{
		Resource: APIServices, Singular: "apiservice", Categories: []string{"api-extensions"},
		GVK: apiregistrationv1.SchemeGroupVersion.WithKind("APIService"),
	}, write, status)
	k.Table = Printer{
		Columns: []metav1.TableColumnDefinition{
			nameColumn(),
			column("Service", "string", "The reference to the service that hosts this API endpoint."),
			column("Available", "string", "Whether this service is available."),
			ageColumn(),
		},
		Cells: prints(apiServiceCells),
	}
	return k
}

func apiServiceCells(s *apiregistrationv1.APIService, now time.Time) []any {
	service, available := "Local", string(apiregistrationv1.ConditionUnknown)
	if s.Spec.Service != nil {
		service = s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
	}
	if c := helper.GetAPIServiceConditionByType(s, apiregistrationv1.Available); c != nil {
		if available = string(c.Status); c.Status != apiregistrationv1.ConditionTrue {
			available = fmt.Sprintf("%s (%s)", c.Status, c.Reason)
		}
	}
	return []any{s.Name, service, available, age(s.CreationTimestamp, now)}
}

// ServedElsewhere reports whether an object is an APIService that another server answers for. Nobody else
// answers for APIServices themselves.
func ServedElsewhere(obj Object) bool {
	api, ok := obj.(*apiregistrationv1.APIService)
	return ok && api.Spec.Service != nil && api.Spec.Group != apiregistrationv1.GroupName
}
