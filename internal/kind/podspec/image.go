package podspec

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

// imageName is the grammar of an image reference: [domain/]path[:tag][@digest].
var imageName = regexp.MustCompile(`^` +
	`(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` +
	`[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*` +
	`(?::([\w][\w.-]{0,127}))?` +
	`(?:@([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?$`)

var bareImageID = regexp.MustCompile(`^[a-f0-9]{64}$`)

// imageTag returns the tag that image names: "latest" when it names neither tag
// nor digest, "" when it has only a digest or is no image reference at all.
func imageTag(image string) string {
	if bareImageID.MatchString(image) {
		return ""
	}
	m := imageName.FindStringSubmatch(image)
	if m == nil {
		return ""
	}
	tag, digest := m[1], m[2]
	if tag == "" && digest == "" {
		return "latest"
	}
	return tag
}

// defaultPullPolicy is Always for the tag latest, else IfNotPresent.
func defaultPullPolicy(image string) corev1.PullPolicy {
	if imageTag(image) == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}
