package upstream

import (
	"context"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
)

// scaleVersion says that scales are of autoscaling/v1, whatever they are scales of.
type scaleVersion struct{}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (scaleVersion) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

// ValidateScale returns what is wrong with a scale that was written over old.
func ValidateScale(scale, old *autoscalingv1.Scale) field.ErrorList {
	ctx := genericapirequest.WithRequestInfo(context.Background(), &genericapirequest.RequestInfo{
		IsResourceRequest: true, APIGroup: "apps", APIVersion: "v1", Subresource: "scale",
	})
	in, before := internal(scale).(*autoscaling.Scale), internal(old).(*autoscaling.Scale)
	return autoscalingvalidation.ValidateScaleUpdate(ctx, in, before, scheme(), scaleVersion{})
}
