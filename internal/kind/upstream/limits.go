package upstream

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger"
)

// DefaultLimits gives the containers of a pod what limits has for those that ask for
// nothing.
func DefaultLimits(limits *corev1.LimitRange, pod *corev1.Pod) (err error) {
	change(pod, corev1.SchemeGroupVersion, func(in runtime.Object) {
		err = limitranger.PodMutateLimitFunc(limits, in.(*core.Pod))
	})
	return err
}

// WithinLimits says why a pod or a claim is not within limits.
func WithinLimits(limits *corev1.LimitRange, obj runtime.Object) error {
	switch in := internal(obj).(type) {
	case *core.Pod:
		return limitranger.PodValidateLimitFunc(limits, in)
	case *core.PersistentVolumeClaim:
		return limitranger.PersistentVolumeClaimValidateLimitFunc(limits, in)
	}
	return nil
}
