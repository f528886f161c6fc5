package kind

import (
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// What admission puts into pods, so that programs in them find the API and are known there:
// client libraries look into TokenDir.
const (
	// TokenDir is where it is mounted.
	TokenDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	// TokenVolumePrefix begins the name of the volume.
	TokenVolumePrefix = "kube-api-access-"
	// RootCAName is the ConfigMap of each namespace with the authority of the API's certificate.
	RootCAName = "kube-root-ca.crt"

	// tokenSeconds is by which Kubernetes knows a token that nobody has asked for.
	tokenSeconds = 3607
)

// TokenVolume reports whether v is the volume of the pod that admission has made.
func TokenVolume(v *corev1.Volume) bool {
	return v.Projected != nil && strings.HasPrefix(v.Name, TokenVolumePrefix)
}

// wantsToken: the pod's word counts before that of its account, and silence is consent. An account
// that is about to be made is a default one, which says no (see sweep.Plan).
func wantsToken(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	if want := pod.Spec.AutomountServiceAccountToken; want != nil {
		return *want
	}
	return account != nil && ptr.Deref(account.AutomountServiceAccountToken, true)
}

// mountToken mounts a volume with a token into all containers but those that mount something of
// their own there. A pod that has such a volume, being a copy of another, keeps it.
func mountToken(pod *corev1.Pod) {
	name, has := "", false
	if i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, TokenVolumePrefix) }); i >= 0 {
		name, has = pod.Spec.Volumes[i].Name, true
	} else {
		name = tokenVolumeName(pod)
	}
	mounted := false
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == TokenDir }) {
				continue
			}
			// Pods of a template share its slices.
			c.VolumeMounts = append(slices.Clip(c.VolumeMounts), corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: TokenDir})
			mounted = true
		}
	}
	if mounted && !has {
		pod.Spec.Volumes = append(slices.Clip(pod.Spec.Volumes), corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenSources()}})
	}
}

// tokenSources are what the volume shows, with all defaults.
func tokenSources() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](tokenSeconds)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: RootCAName},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

// tokenVolumeName ends as Kubernetes' names do, in five letters, but they are not random: whoever
// makes the same pod twice makes the same pod. The pods of a Job have the same.
func tokenVolumeName(pod *corev1.Pod) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	h := fnv.New64a()
	for _, part := range []string{pod.Namespace, pod.Name, pod.GenerateName} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	var end [5]byte
	sum := h.Sum64()
	for i := range end {
		end[i] = letters[sum%uint64(len(letters))]
		sum /= uint64(len(letters))
	}
	return TokenVolumePrefix + string(end[:])
}
