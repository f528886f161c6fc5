package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// defaultPullPolicy is Always for the tag latest, which an image has that names neither tag nor digest, else
// IfNotPresent, of what is no image reference, too.
func defaultPullPolicy(image string) corev1.PullPolicy {
	if _, tag, _, _ := parsers.ParseImageName(image); tag == "latest" { // whether it is one, others say
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}
