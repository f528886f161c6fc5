package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// An account that keeps its pods to its own Secrets: each way to use another is refused, in
// Kubernetes' words.
func TestMountableSecrets(t *testing.T) {
	t.Parallel()
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	env := func(name string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref(name), Key: "k"}}}}
	}
	from := func(name string) []corev1.EnvFromSource {
		return []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref(name)}}}
	}
	const no = ` secret.secretName="other" is not allowed because service account a does not reference that secret`
	for name, c := range map[string]struct {
		spec func(name string) corev1.PodSpec
		err  string
	}{
		"volume": {func(name string) corev1.PodSpec {
			return corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}}}
		}, "volume with" + no},
		"init env": {func(name string) corev1.PodSpec {
			return corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i", Env: env(name)}}}
		}, "init container i with envVar E referencing" + no},
		"env": {func(name string) corev1.PodSpec {
			return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Env: env(name)}}}
		}, "container c with envVar E referencing" + no},
		"envFrom": {func(name string) corev1.PodSpec {
			return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", EnvFrom: from(name)}}}
		}, "container c with envFrom referencing" + no},
		"pull": {func(name string) corev1.PodSpec {
			return corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{ref("own"), ref(name)}}
		}, `imagePullSecrets[1].name="other" is not allowed because service account a does not reference that imagePullSecret`},
	} {
		for _, annotation := range []string{"", "false", "true", "T", "nonsense"} {
			account := &corev1.ServiceAccount{Secrets: []corev1.ObjectReference{{Name: "own"}}, ImagePullSecrets: []corev1.LocalObjectReference{ref("own")}}
			account.Name, account.Annotations = "a", map[string]string{enforceMountableSecrets: annotation}
			for _, secret := range []string{"own", "other"} {
				pod := &corev1.Pod{Spec: c.spec(secret)}
				pod.Namespace, pod.Name, pod.Spec.ServiceAccountName = "ns", "p", "a"
				want := ""
				if secret == "other" && (annotation == "true" || annotation == "T") {
					want = c.err
				}
				got := ""
				if err := AdmitAccount(pod, account); err != nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("%s of %s, %q: %q, want %q", name, secret, annotation, got, want)
				}
			}
		}
	}
	account := &corev1.ServiceAccount{}
	account.Name, account.Annotations = "a", map[string]string{enforceMountableSecrets: "true"}
	pod := &corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "a", EphemeralContainers: []corev1.EphemeralContainer{
		{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", EnvFrom: from("other")}}}}}
	pod.Namespace = "ns"
	if err := mountableBeside(pod, objects{AccountKey(pod): account}); err == nil || err.Error() != "ephemeral container e with envFrom referencing"+no {
		t.Error(err)
	}
	if err := mountableBeside(pod, objects{AccountKey(pod): &corev1.ServiceAccount{}}); err != nil {
		t.Error(err)
	}
	if err := mountableBeside(pod, objects{}); err == nil {
		t.Error("an ephemeral container of a pod whose account is gone")
	}
	pod.Spec.ServiceAccountName = ""
	if err := mountableBeside(pod, objects{}); err != nil {
		t.Error(err)
	}
}
