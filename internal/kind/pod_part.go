package kind

import (
	corev1 "k8s.io/api/core/v1"
	podregistry "k8s.io/kubernetes/pkg/registry/core/pod"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// podParts are what can be changed of a pod that runs. That is seldom done, so its rules are
// Kubernetes' own code, as of the kinds that are Rare.
func podParts() []Part {
	return []Part{podPart(EphemeralContainers, podregistry.EphemeralContainersStrategy)}
}

func podPart(name Subresource, strategy upstream.Strategy) Part {
	rules := upstream.Of(corev1.SchemeGroupVersion.WithKind("Pod"), string(Pods), string(name), strategy)
	part := Part{Name: name, Update: kubernetesUpdate(rules)}
	part.ResetFields, part.ResetFilter = nil, rules.ResetFilter
	return part
}
