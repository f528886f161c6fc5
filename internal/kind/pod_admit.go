package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// The two priority classes that every Kubernetes cluster has.
const (
	clusterCritical, clusterCriticalValue = "system-cluster-critical", 2000000000
	nodeCritical, nodeCriticalValue       = "system-node-critical", 2000001000
)

// AdmitPod puts into a new pod what Kubernetes' admission puts there, whoever
// creates it: the service account "default", the priority of its class, and 300
// seconds on a node that is not ready or not reached. The error says why the
// pod is forbidden.
func AdmitPod(pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	if err := admitPriority(&pod.Spec); err != nil {
		return err
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !toleratesEviction(pod.Spec.Tolerations, key) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
				TolerationSeconds: ptr.To[int64](300),
			})
		}
	}
	return nil
}

func admitPriority(spec *corev1.PodSpec) error {
	var priority int32
	switch spec.PriorityClassName {
	case "":
	case clusterCritical:
		priority = clusterCriticalValue
	case nodeCritical:
		priority = nodeCriticalValue
	default:
		return fmt.Errorf("no PriorityClass with name %s was found", spec.PriorityClassName)
	}
	if spec.Priority != nil && *spec.Priority != priority {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; "+
			"priority admission controller computed %d from the given PriorityClass name", *spec.Priority, priority)
	}
	policy := corev1.PreemptLowerPriority
	if spec.PreemptionPolicy != nil && *spec.PreemptionPolicy != policy {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; "+
			"priority admission controller computed %s from the given PriorityClass name", *spec.PreemptionPolicy, policy)
	}
	spec.Priority, spec.PreemptionPolicy = &priority, &policy
	return nil
}

// toleratesEviction reports whether list says something of the NoExecute taint
// key already.
func toleratesEviction(list []corev1.Toleration, key string) bool {
	for _, t := range list {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
