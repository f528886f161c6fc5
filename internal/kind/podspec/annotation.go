package podspec

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// The annotations that stood for seccomp and AppArmor profiles before those
// were fields. They are still checked, and must agree with the fields.
const (
	seccompPodAnnotation       = corev1.SeccompPodAnnotationKey
	seccompContainerAnnotation = corev1.SeccompContainerAnnotationKeyPrefix
	appArmorAnnotation         = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix
)

// annotations checks the annotations that mean something in a pod.
func (c *checker) annotations(annotations map[string]string, path *field.Path) {
	if value, mirror := annotations[corev1.MirrorPodAnnotationKey]; mirror && c.spec.NodeName == "" {
		c.invalid(path.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set")
	}
	c.annotatedTolerations(path, annotations)
	if cost, ok := annotations[corev1.PodDeletionCost]; ok && !validDeletionCost(cost) {
		c.addRule(ruleDeletionCost, field.Invalid(path.Key(corev1.PodDeletionCost), cost, "must be a 32bit integer"))
	}
	if profile, ok := annotations[seccompPodAnnotation]; ok {
		c.seccompAnnotation(path.Child(seccompPodAnnotation), profile)
	}
	for _, key := range sortedKeys(annotations) {
		if strings.HasPrefix(key, seccompContainerAnnotation) {
			c.seccompAnnotation(path.Child(key), annotations[key])
		}
	}
	for _, key := range sortedKeys(annotations) {
		if name, ok := strings.CutPrefix(key, appArmorAnnotation); ok {
			c.appArmorAnnotation(path.Key(key), name, annotations[key])
		}
	}
}

// validDeletionCost accepts integers without a plus sign or leading zeros.
func validDeletionCost(s string) bool {
	if s == "" || s[0] == '+' || (s[0] == '0' && s != "0") {
		return false
	}
	_, err := strconv.ParseInt(s, 10, 32)
	return err == nil
}

func (c *checker) seccompAnnotation(path *field.Path, profile string) {
	switch profile {
	case corev1.SeccompProfileRuntimeDefault, corev1.DeprecatedSeccompProfileDockerDefault, corev1.SeccompProfileNameUnconfined:
		return
	}
	if file, ok := strings.CutPrefix(profile, corev1.SeccompLocalhostProfileNamePrefix); ok {
		c.descendingPath(path, file)
		return
	}
	c.invalid(path, profile, "must be a valid seccomp profile")
}

func (c *checker) appArmorAnnotation(path *field.Path, container, profile string) {
	found := false
	visitContainers(c.spec, nil, func(ctr *corev1.Container, _ *field.Path) { found = found || ctr.Name == container })
	if !found {
		c.invalid(path, container, "container not found")
	}
	switch profile {
	case "", corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return
	}
	if !strings.HasPrefix(profile, corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
		c.invalid(path, profile, fmt.Sprintf("invalid AppArmor profile name: %q", profile))
	}
}

// seccompAnnotationsMatch demands that annotations and fields agree.
func (c *checker) seccompAnnotationsMatch(annotations map[string]string, path *field.Path) {
	match := func(at *field.Path, key string, p *corev1.SeccompProfile) {
		value, ok := annotations[key]
		if p == nil || !ok {
			return
		}
		at = at.Child("securityContext", "seccompProfile")
		file, local := strings.CutPrefix(value, corev1.SeccompLocalhostProfileNamePrefix)
		agree := true
		switch p.Type {
		case corev1.SeccompProfileTypeUnconfined:
			agree = value == corev1.SeccompProfileNameUnconfined
		case corev1.SeccompProfileTypeRuntimeDefault:
			agree = value == corev1.SeccompProfileRuntimeDefault || value == corev1.DeprecatedSeccompProfileDockerDefault
		case corev1.SeccompProfileTypeLocalhost:
			agree = local
			if local && (p.LocalhostProfile == nil || *p.LocalhostProfile != file) {
				c.forbidden(at.Child("localhostProfile"), "seccomp profile in annotation and field must match")
			}
		}
		if !agree {
			c.forbidden(at.Child("type"), "seccomp type in annotation and field must match")
		}
	}
	if sc := c.spec.SecurityContext; sc != nil {
		match(path, seccompPodAnnotation, sc.SeccompProfile)
	}
	visitContainers(c.spec, path, func(ctr *corev1.Container, at *field.Path) {
		if ctr.SecurityContext != nil {
			match(at, seccompContainerAnnotation+ctr.Name, ctr.SecurityContext.SeccompProfile)
		}
	})
}

// appArmorAnnotationsMatch does the same for AppArmor, where the pod's profile
// stands for those of its containers.
func (c *checker) appArmorAnnotationsMatch(annotations map[string]string, path *field.Path) {
	if c.spec.OS != nil && c.spec.OS.Name == corev1.Windows {
		return
	}
	var pod *corev1.AppArmorProfile
	if c.spec.SecurityContext != nil {
		pod = c.spec.SecurityContext.AppArmorProfile
	}
	visitContainers(c.spec, path, func(ctr *corev1.Container, at *field.Path) {
		profile := pod
		if ctr.SecurityContext != nil && ctr.SecurityContext.AppArmorProfile != nil {
			profile = ctr.SecurityContext.AppArmorProfile
		}
		value, ok := annotations[appArmorAnnotation+ctr.Name]
		if profile == nil || !ok {
			return
		}
		at = at.Child("securityContext", "appArmorProfile")
		file, local := strings.CutPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
		agree := true
		switch profile.Type {
		case corev1.AppArmorProfileTypeUnconfined:
			agree = value == corev1.DeprecatedAppArmorBetaProfileNameUnconfined
		case corev1.AppArmorProfileTypeRuntimeDefault:
			agree = value == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
		case corev1.AppArmorProfileTypeLocalhost:
			agree = local
			if local && (profile.LocalhostProfile == nil || ptr.Deref(profile.LocalhostProfile, "") != file) {
				c.forbidden(at.Child("localhostProfile"), "apparmor profile in annotation and field must match")
			}
		}
		if !agree {
			c.forbidden(at.Child("type"), "apparmor type in annotation and field must match")
		}
	})
}
