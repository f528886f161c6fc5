package kind

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// Scale is how many of something an object is to have, as clients read and write it through
// /scale, whatever kind the object is of.
type Scale struct {
	// Read returns how many are wanted, how many there are, and which they are, as the text
	// of a selector. The error says that the selector cannot be read.
	Read func(obj Object) (want, have int32, selector string, err error)
	// Set makes want the number that is wanted.
	Set func(obj Object, want int32)
}

// ScaleKind is what /scale takes and gives.
var ScaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// Of returns the scale of an object.
func (s *Scale) Of(obj Object) (*autoscalingv1.Scale, error) {
	want, have, selector, err := s.Read(obj)
	if err != nil {
		return nil, err
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: want},
		Status: autoscalingv1.ScaleStatus{Replicas: have, Selector: selector},
	}, nil
}

// ValidateScale returns what is wrong with a scale that a client has written over old.
func ValidateScale(scale, old *autoscalingv1.Scale) field.ErrorList {
	return upstream.ValidateScale(scale, old)
}

// ScalePrinter prints scales.
func ScalePrinter() Printer {
	return Printer{
		Columns: []metav1.TableColumnDefinition{
			column("Name", "string", metav1.ObjectMeta{}.SwaggerDoc()["name"]),
			column("Desired", "integer", autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"]),
			column("Available", "integer", autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"]),
			ageColumn(),
		},
		Cells: func(obj Object, now time.Time) []any {
			s := obj.(*autoscalingv1.Scale)
			return []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), age(s.CreationTimestamp, now)}
		},
	}
}

// scaled gives the row the subresource scale.
func (k *Kind) scaled(scale Scale) *Kind {
	k.Scale, k.AddToScheme = &scale, addScale
	return k
}

func addScale(s *runtime.Scheme) error {
	addVersion(s, autoscalingv1.SchemeGroupVersion, &autoscalingv1.Scale{})
	return nil
}
