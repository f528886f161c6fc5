package kind

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// An account may say, by an annotation that Kubernetes has deprecated and still obeys, that its pods
// use no Secrets but those that it names.

func limitsSecrets(account *corev1.ServiceAccount) bool {
	if account == nil {
		return false
	}
	limits, _ := strconv.ParseBool(account.Annotations[enforceMountableSecrets])
	return limits
}

// mountable refuses a new pod that uses another Secret. (Kubernetes: plugin/pkg/admission/serviceaccount)
func mountable(pod *corev1.Pod, account *corev1.ServiceAccount) error {
	if !limitsSecrets(account) {
		return nil
	}
	for i := range pod.Spec.Volumes {
		if source := pod.Spec.Volumes[i].Secret; source != nil && !namesSecret(account, source.SecretName) {
			return notMountable("volume with", source.SecretName, account)
		}
	}
	for _, list := range []struct {
		what       string
		containers []corev1.Container
	}{{"init container", pod.Spec.InitContainers}, {"container", pod.Spec.Containers}} {
		for i := range list.containers {
			c := &list.containers[i]
			if err := mountableIn(list.what+" "+c.Name, c.Env, c.EnvFrom, account); err != nil {
				return err
			}
		}
	}
	for i, ref := range pod.Spec.ImagePullSecrets {
		if !slices.Contains(account.ImagePullSecrets, ref) {
			return fmt.Errorf("imagePullSecrets[%d].name=\"%s\" is not allowed because service account %s does not reference that imagePullSecret", i, ref.Name, account.Name)
		}
	}
	return nil
}

// mountableBeside refuses the same of the ephemeral containers of a pod.
func mountableBeside(pod *corev1.Pod, others Getter) error {
	key := AccountKey(pod)
	found, ok := others.Get(key)
	switch {
	case !ok && key.Name == DefaultAccount:
		return nil
	case !ok:
		return noAccount(pod)
	}
	account := found.(*corev1.ServiceAccount)
	if !limitsSecrets(account) {
		return nil
	}
	for i := range pod.Spec.EphemeralContainers {
		c := &pod.Spec.EphemeralContainers[i]
		if err := mountableIn("ephemeral container "+c.Name, c.Env, c.EnvFrom, account); err != nil {
			return err
		}
	}
	return nil
}

func mountableIn(container string, env []corev1.EnvVar, from []corev1.EnvFromSource, account *corev1.ServiceAccount) error {
	for i := range env {
		if v := env[i].ValueFrom; v != nil && v.SecretKeyRef != nil && !namesSecret(account, v.SecretKeyRef.Name) {
			return notMountable(fmt.Sprintf("%s with envVar %s referencing", container, env[i].Name), v.SecretKeyRef.Name, account)
		}
	}
	for i := range from {
		if ref := from[i].SecretRef; ref != nil && !namesSecret(account, ref.Name) {
			return notMountable(container+" with envFrom referencing", ref.Name, account)
		}
	}
	return nil
}

func namesSecret(account *corev1.ServiceAccount, name string) bool {
	return slices.ContainsFunc(account.Secrets, func(ref corev1.ObjectReference) bool { return ref.Name == name })
}

func notMountable(what, secret string, account *corev1.ServiceAccount) error {
	return fmt.Errorf("%s secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret", what, secret, account.Name)
}
