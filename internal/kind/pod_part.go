package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	podregistry "k8s.io/kubernetes/pkg/registry/core/pod"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// podParts are what can be changed of a pod that runs. That is seldom done, so its rules are
// Kubernetes' own code, as of the kinds that are Rare.
func podParts() []Part {
	resize := podPart(Resize, podregistry.ResizeStrategy)
	resize.Limit = func(obj, _ Object, others Getter) error {
		if err := withinLimits(obj, others); err != nil {
			return err
		}
		return withinNode(obj.(*corev1.Pod), others)
	}
	ephemeral := podPart(EphemeralContainers, podregistry.EphemeralContainersStrategy)
	ephemeral.Limit = func(obj, old Object, others Getter) error {
		if err := mountableBeside(obj.(*corev1.Pod), others); err != nil {
			return err
		}
		return staysWithinSecurity(obj, old, others)
	}
	return []Part{ephemeral, resize}
}

// withinNode refuses what the pod's node could never give it. (Kubernetes:
// plugin/pkg/admission/podresize)
func withinNode(pod *corev1.Pod, others Getter) error {
	if pod.Spec.NodeName == "" {
		return nil
	}
	obj, ok := others.Get(Nodes.Key("", pod.Spec.NodeName))
	if !ok {
		return fmt.Errorf("node %q not found", pod.Spec.NodeName)
	}
	node := obj.(*corev1.Node)
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	var short []string
	if asked, has := requests.Cpu(), node.Status.Allocatable.Cpu(); asked.Cmp(*has) > 0 {
		short = append(short, fmt.Sprintf("cpu, requested: %d, allocatable: %d", asked.MilliValue(), has.MilliValue()))
	}
	if asked, has := requests.Memory(), node.Status.Allocatable.Memory(); asked.Cmp(*has) > 0 {
		short = append(short, fmt.Sprintf("memory, requested: %d, allocatable: %d", asked.Value(), has.Value()))
	}
	if len(short) > 0 {
		return fmt.Errorf("node didn't have enough allocatable resources: %s", strings.Join(short, "; "))
	}
	return nil
}

func podPart(name Subresource, strategy upstream.Strategy) Part {
	rules := upstream.Of(corev1.SchemeGroupVersion.WithKind("Pod"), string(Pods), string(name), strategy)
	part := Part{Name: name, Update: kubernetesUpdate(rules)}
	part.ResetFields, part.ResetFilter = nil, rules.ResetFilter
	return part
}
