package kind

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// The two priority classes that every Kubernetes cluster has.
const (
	clusterCritical, clusterCriticalValue = "system-cluster-critical", 2000000000
	nodeCritical, nodeCriticalValue       = "system-node-critical", 2000001000
)

// AccountKey is the key of the service account that pod runs as.
func AccountKey(pod *corev1.Pod) change.Key {
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = DefaultAccount
	}
	return ServiceAccounts.Key(pod.Namespace, name)
}

// DefaultAccount is the service account that every namespace has, and that pods run
// as which name none.
const DefaultAccount = "default"

// RuntimeClassNames returns the names of the classes of containers that nodes run.
// There are no RuntimeClass objects: what they are is built in.
func RuntimeClassNames() []string { return []string{"sandbox", "host"} }

// admitPod is all of admission: the row's. AdmitAccount and AdmitPod are its parts, for
// who tells them apart in what he says. Their errors say why a pod is forbidden.
func admitPod(pod *corev1.Pod, others Getter) error {
	var account *corev1.ServiceAccount
	if found, ok := others.Get(AccountKey(pod)); ok {
		account = found.(*corev1.ServiceAccount)
	}
	if err := AdmitAccount(pod, account); err != nil {
		return err
	}
	return AdmitPod(pod)
}

// AdmitPod puts into a new pod what needs no look at anything else: the name of its
// service account, the priority of its class, and 300 seconds on a node that is not
// ready or not reached.
func AdmitPod(pod *corev1.Pod) error {
	name := AccountKey(pod).Name
	pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = name, name
	if err := admitPriority(&pod.Spec); err != nil {
		return err
	}
	admitTolerations(&pod.Spec)
	if class := pod.Spec.RuntimeClassName; class != nil && !slices.Contains(RuntimeClassNames(), *class) {
		return fmt.Errorf("pod rejected: RuntimeClass %q not found", *class)
	}
	if pod.Spec.Overhead != nil {
		// No class defines one.
		return errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	}
	return nil
}

// AdmitAccount gives a new pod the imagePullSecrets of its service account, what
// is at AccountKey; nil if there is none. Only "default" need not exist.
func AdmitAccount(pod *corev1.Pod, account *corev1.ServiceAccount) error {
	name := AccountKey(pod).Name
	if account == nil && name != DefaultAccount {
		return fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", pod.Namespace, name, name)
	}
	if account != nil && len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	return nil
}

// admitPodUpdate does the same for a changed pod: what the client left out
// stays as admission has made it.
func admitPodUpdate(pod, old *corev1.Pod) {
	if pod.Spec.Priority == nil {
		pod.Spec.Priority = old.Spec.Priority
	}
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
	}
	admitTolerations(&pod.Spec)
}

func admitTolerations(spec *corev1.PodSpec) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !toleratesEviction(spec.Tolerations, key) {
			spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
				TolerationSeconds: ptr.To[int64](300),
			})
		}
	}
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
