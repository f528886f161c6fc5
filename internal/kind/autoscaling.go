package kind

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// HorizontalPodAutoscaler is the row of autoscaling/v2 horizontalpodautoscalers.
func HorizontalPodAutoscaler() *Kind {
	k := kubernetes[autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerList](Names{
		Resource: HorizontalPodAutoscalers, Singular: "horizontalpodautoscaler", ShortNames: []string{"hpa"}, Categories: []string{"all"},
		GVK: autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
	}, horizontalpodautoscaler.Strategy, horizontalpodautoscaler.StatusStrategy)
	k.Versions = []Version{{GroupVersion: autoscalingv1.SchemeGroupVersion, AddToScheme: addAutoscalersV1}}
	return horizontalPodAutoscalerTable(k)
}

// addAutoscalersV1 serves the stored v2 autoscalers as autoscaling/v1 too: what v1 has no
// fields for is in annotations there.
func addAutoscalersV1(s *runtime.Scheme) error {
	addVersion(s, autoscalingv1.SchemeGroupVersion, &autoscalingv1.HorizontalPodAutoscaler{}, &autoscalingv1.HorizontalPodAutoscalerList{})
	s.AddTypeDefaultingFunc(&autoscalingv1.HorizontalPodAutoscaler{}, func(obj any) { upstream.Default(obj.(runtime.Object)) })
	if err := convertsBothWays(s, converted[*autoscalingv1.HorizontalPodAutoscaler, *autoscalingv2.HorizontalPodAutoscaler],
		converted[*autoscalingv2.HorizontalPodAutoscaler, *autoscalingv1.HorizontalPodAutoscaler]); err != nil {
		return err
	}
	return convertsBothWays(s, converted[*autoscalingv1.HorizontalPodAutoscalerList, *autoscalingv2.HorizontalPodAutoscalerList],
		converted[*autoscalingv2.HorizontalPodAutoscalerList, *autoscalingv1.HorizontalPodAutoscalerList])
}
