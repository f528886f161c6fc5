package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	upstream "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// admitPriority gives a new pod the priority of its class, or of the default one. (In
// Kubernetes an admission plugin does that, Priority.)
func admitPriority(spec *corev1.PodSpec, others Getter) error {
	class, err := priorityClass(spec.PriorityClassName, others)
	if err != nil {
		return err
	}
	if spec.Priority != nil && *spec.Priority != class.Value {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; "+
			"priority admission controller computed %d from the given PriorityClass name", *spec.Priority, class.Value)
	}
	spec.PriorityClassName, spec.Priority = class.Name, &class.Value
	if class.PreemptionPolicy == nil {
		return nil
	}
	policy := *class.PreemptionPolicy
	if spec.PreemptionPolicy != nil && *spec.PreemptionPolicy != policy {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; "+
			"priority admission controller computed %s from the given PriorityClass name", *spec.PreemptionPolicy, policy)
	}
	spec.PreemptionPolicy = &policy
	return nil
}

// priorityClass returns a copy of the class of this name, for "" of the default one: of
// several the one with the lowest value, and if there is none, one without a name.
func priorityClass(name string, others Getter) (*schedulingv1.PriorityClass, error) {
	if name != "" {
		if obj, ok := others.Get(PriorityClasses.Key("", name)); ok {
			return obj.(*schedulingv1.PriorityClass).DeepCopy(), nil
		}
		for _, class := range SystemPriorityClasses() { // they are there before the store has them
			if class.Name == name {
				return class, nil
			}
		}
		return nil, fmt.Errorf("no PriorityClass with name %s was found", name)
	}
	class := defaultPriority(others)
	if class == nil {
		return &schedulingv1.PriorityClass{PreemptionPolicy: ptr.To(corev1.PreemptLowerPriority)}, nil
	}
	return class.DeepCopy(), nil
}

func defaultPriority(others Getter) *schedulingv1.PriorityClass {
	var lowest *schedulingv1.PriorityClass
	for obj := range others.List(PriorityClasses, "") {
		class := obj.(*schedulingv1.PriorityClass)
		if class.GlobalDefault && (lowest == nil || class.Value < lowest.Value) {
			lowest = class
		}
	}
	return lowest
}

// onlyDefault refuses a second default class.
func onlyDefault(obj change.Object, others Getter) error {
	class := obj.(*schedulingv1.PriorityClass)
	if !class.GlobalDefault {
		return nil
	}
	if other := defaultPriority(others); other != nil && other.Name != class.Name {
		return fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name)
	}
	return nil
}

// SystemPriorityClasses are the classes that every Kubernetes cluster has.
func SystemPriorityClasses() []*schedulingv1.PriorityClass {
	classes := upstream.SystemPriorityClasses()
	for _, class := range classes {
		class.Generation, class.PreemptionPolicy = 1, ptr.To(corev1.PreemptLowerPriority)
	}
	return classes
}
