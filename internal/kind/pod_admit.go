package kind

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
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
// What they are is built in; each has a RuntimeClass object, to be found by.
func RuntimeClassNames() []string { return []string{"sandbox", hostClass} }

// hostClass is the one that isolates nothing.
const hostClass = "host"

// admitPod is all of admission: the row's. AdmitAccount and AdmitPod are its parts, for
// who tells them apart in what he says. Their errors say why a pod is forbidden.
//
// A namespace that is new has no default account yet, for which kube-apiserver waits. Here fresh is in its
// place, which is what it will be: nobody waits, and whoever is first has a pod like all others'.
func admitPod(pod *corev1.Pod, others Getter, fresh *corev1.ServiceAccount) error {
	var account *corev1.ServiceAccount
	key := AccountKey(pod)
	if key.Name == DefaultAccount {
		account = fresh
	}
	if found, ok := others.Get(key); ok {
		account = found.(*corev1.ServiceAccount)
	}
	if err := AdmitAccount(pod, account); err != nil {
		return err
	}
	if err := AdmitPod(pod, others); err != nil {
		return err
	}
	return admitLimits(pod, others)
}

// AdmitPod puts into a new pod the name of its service account, the priority of its
// class, 300 seconds on a node that is not ready or not reached, and what its runtime class says.
func AdmitPod(pod *corev1.Pod, others Getter) error {
	name := AccountKey(pod).Name
	pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = name, name
	if err := admitPriority(&pod.Spec, others); err != nil {
		return err
	}
	admitTolerations(&pod.Spec)
	return admitRuntimeClass(&pod.Spec, others)
}

// AdmitAccount gives a new pod the imagePullSecrets of its service account, what
// is at AccountKey; nil if there is none, and a volume with a token, unless the pod or the
// account says no, and refuses it Secrets that the account keeps from it. Only "default" need not exist: every namespace gets it
// in a moment.
func AdmitAccount(pod *corev1.Pod, account *corev1.ServiceAccount) error {
	name := AccountKey(pod).Name
	if account == nil && name != DefaultAccount {
		return noAccount(pod)
	}
	if account != nil && len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	if wantsToken(pod, account) {
		mountToken(pod)
	}
	return mountable(pod, account)
}

func noAccount(pod *corev1.Pod) error {
	name := AccountKey(pod).Name
	return fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", pod.Namespace, name, name)
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
