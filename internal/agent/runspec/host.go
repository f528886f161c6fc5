package runspec

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
)

// hostCapabilities returns what a process of the class host keeps of what the
// runner's own user has; nil when the container drops nothing: it is then like
// any process of that user. It gets nothing besides.
func hostCapabilities(caps *corev1.Capabilities) []string {
	if caps == nil || len(caps.Drop) == 0 {
		return nil
	}
	keep := []string{}
	if !slices.ContainsFunc(caps.Drop, isAll) {
		keep = slices.Clone(allCapabilities[:])
	} else if slices.ContainsFunc(caps.Add, isAll) {
		return keep // dropping wins
	}
	for _, c := range caps.Add {
		if name := capName(c); !isAll(c) && !slices.Contains(keep, name) {
			keep = append(keep, name)
		}
	}
	return slices.DeleteFunc(keep, func(name string) bool {
		return slices.ContainsFunc(caps.Drop, func(c corev1.Capability) bool { return capName(c) == name })
	})
}

// setHostUser sets the user of a process of the machine: the runner's own
// unless the pod says another, whose group is then what the machine says.
func setHostUser(spec *runner.Spec, uid, gid *int64, pod *corev1.PodSecurityContext) {
	if uid != nil {
		u := uint32(*uid)
		spec.UID = &u
	}
	if gid != nil {
		g := uint32(*gid)
		spec.GID = &g
	}
	addGroups(spec, pod)
}

// userVariables belong to the engine's own user, and would mislead another.
var userVariables = [...]string{"HOME", "USER", "LOGNAME", "TMPDIR"}

// withoutUser returns an environment without what belongs to a user.
func withoutUser(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(userVariables[:], name)
	})
}

// HostIgnores names what a container says in its security context, and its pod
// for it, that has no effect in the class host.
func HostIgnores(pod *corev1.Pod, container *corev1.Container) []string {
	var names []string
	ignore := func(name string, said bool) {
		if said {
			names = append(names, name)
		}
	}
	if own := container.SecurityContext; own != nil {
		ignore("privileged", isTrue(own.Privileged))
		ignore("capabilities.add", own.Capabilities != nil && len(own.Capabilities.Add) > 0)
		ignore("readOnlyRootFilesystem", isTrue(own.ReadOnlyRootFilesystem))
		ignore("procMount", own.ProcMount != nil && *own.ProcMount != corev1.DefaultProcMount)
	}
	seccomp, apparmor, selinux := false, false, false
	if own := container.SecurityContext; own != nil {
		seccomp, apparmor, selinux = own.SeccompProfile != nil, own.AppArmorProfile != nil, own.SELinuxOptions != nil
	}
	if all := pod.Spec.SecurityContext; all != nil {
		seccomp, apparmor, selinux = seccomp || all.SeccompProfile != nil, apparmor || all.AppArmorProfile != nil, selinux || all.SELinuxOptions != nil
		ignore("sysctls", len(all.Sysctls) > 0)
	}
	ignore("seccompProfile", seccomp)
	ignore("appArmorProfile", apparmor)
	ignore("seLinuxOptions", selinux)
	ignore("hostUsers: false", pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers)
	return names
}
