package kind

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// What LimitRanges say of pods and claims, by Kubernetes' own code. (There an admission
// plugin does that, LimitRanger.)

// admitLimits gives the containers of a new pod what the LimitRanges of its namespace
// have for those that ask for nothing.
func admitLimits(pod *corev1.Pod, others Getter) error {
	for obj := range others.List(LimitRanges, pod.Namespace) {
		if err := upstream.DefaultLimits(obj.(*corev1.LimitRange), pod); err != nil {
			return err
		}
	}
	return nil
}

// withinLimits says which LimitRange of its namespace a pod or a claim is not within.
func withinLimits(obj Object, others Getter) error {
	for limits := range others.List(LimitRanges, obj.GetNamespace()) {
		if err := upstream.WithinLimits(limits.(*corev1.LimitRange), obj); err != nil {
			return err
		}
	}
	return nil
}
