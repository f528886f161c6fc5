package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// A pod gets a token unless it, or its account, says no; a copy of a pod does not get a second one.
func TestTokenVolume(t *testing.T) {
	t.Parallel()
	yes, no := ptr.To(true), ptr.To(false)
	for _, test := range []struct {
		name         string
		pod, account *bool
		want         bool
	}{
		{"silence", nil, nil, true}, {"the account says no", nil, no, false}, {"the account says yes", nil, yes, true},
		{"the pod says no", no, yes, false}, {"the pod says yes", yes, no, true},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{AutomountServiceAccountToken: test.pod,
			InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "a"},
				{Name: "b", VolumeMounts: []corev1.VolumeMount{{Name: "own", MountPath: TokenDir}}}}}}
		pod.Namespace, pod.Name = "ns", "p"
		if err := AdmitAccount(pod, &corev1.ServiceAccount{AutomountServiceAccountToken: test.account}); err != nil {
			t.Fatal(err)
		}
		if got := len(pod.Spec.Volumes) == 1; got != test.want {
			t.Errorf("%s: %v", test.name, pod.Spec.Volumes)
		}
		if !test.want {
			continue
		}
		v, in := pod.Spec.Volumes[0], pod.Spec.InitContainers[0].VolumeMounts
		if !TokenVolume(&v) || len(v.Name) != len(TokenVolumePrefix)+5 || len(in) != 1 || in[0].Name != v.Name || !in[0].ReadOnly || in[0].MountPath != TokenDir ||
			len(pod.Spec.Containers[0].VolumeMounts) != 1 || pod.Spec.Containers[1].VolumeMounts[0].Name != "own" || len(pod.Spec.Containers[1].VolumeMounts) != 1 {
			t.Errorf("%s: %+v, %+v", test.name, v, pod.Spec)
		}
		again := pod.DeepCopy()
		again.Name = "q"
		if err := AdmitAccount(again, &corev1.ServiceAccount{}); err == nil && (len(again.Spec.Volumes) != 1 || again.Spec.Volumes[0].Name != v.Name) {
			t.Errorf("%s: of a copy: %+v", test.name, again.Spec.Volumes)
		}
	}
}

// The pods of a template share what it has, and none of them changes it.
func TestTokenVolumeLeavesTheTemplate(t *testing.T) {
	t.Parallel()
	volumes := make([]corev1.Volume, 1, 4)
	mounts := make([]corev1.VolumeMount, 1, 4)
	for _, name := range []string{"a", "b"} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Volumes: volumes, Containers: []corev1.Container{{VolumeMounts: mounts}}}}
		pod.Namespace, pod.Name = "ns", name
		if err := AdmitAccount(pod, &corev1.ServiceAccount{}); err != nil {
			t.Fatal(err)
		}
	}
	if volumes[:2][1].Name != "" || mounts[:2][1].Name != "" {
		t.Errorf("the template was changed: %+v, %+v", volumes[:2], mounts[:2])
	}
}

// A namespace that has just been made has no default account yet: its first pod is like all that come
// after it.
func TestTokenBeforeTheAccount(t *testing.T) {
	t.Parallel()
	for _, mounts := range []bool{false, true} {
		k := Cluster{MountDefault: mounts}.Kinds().ByResource(Pods)
		for _, name := range []string{"", DefaultAccount} {
			pod := &corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: name, Containers: []corev1.Container{{Name: "c"}}}}
			pod.Namespace, pod.Name = "new", "p"
			if err := k.Create.Admit(pod, objects{}); err != nil || (len(pod.Spec.Volumes) == 1) != mounts {
				t.Errorf("mounts %v, account %q: %v, %v", mounts, name, pod.Spec.Volumes, err)
			}
			pod.Spec.Volumes, pod.Spec.Containers[0].VolumeMounts = nil, nil
			says := objects{AccountKey(pod): &corev1.ServiceAccount{AutomountServiceAccountToken: ptr.To(false)}}
			if err := k.Create.Admit(pod, says); err != nil || len(pod.Spec.Volumes) > 0 {
				t.Errorf("mounts %v, the account says no: %v, %v", mounts, pod.Spec.Volumes, err)
			}
		}
		other := &corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "other"}}
		other.Namespace = "new"
		if err := k.Create.Admit(other, objects{}); err == nil {
			t.Errorf("mounts %v: an account that is not there", mounts)
		}
	}
}
