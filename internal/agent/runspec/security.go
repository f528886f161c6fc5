package runspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
)

// defaultCapabilities is the set that container runtimes give a container which
// asks for nothing.
var defaultCapabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCapabilities is every capability that Linux knows.
var allCapabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
	"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// networkCapabilities are power over a network: to change it, and to read and
// forge what others send. Where pods share the machine's, a pod has them
// only if its manifest asks for the machine's network. Two relatives stay:
// NET_BIND_SERVICE takes ports that nobody has taken, as every process may above
// 1023; NET_BROADCAST is asked for nowhere in the kernel.
var networkCapabilities = [...]string{"CAP_NET_ADMIN", "CAP_NET_RAW"}

// Capabilities returns the capabilities of a container whose network is its own
// to rule: the default set, plus add, minus drop; "ALL" stands for every one.
func Capabilities(caps *corev1.Capabilities) []string {
	set := defaultCapabilities[:]
	if caps == nil || len(caps.Add) == 0 && len(caps.Drop) == 0 {
		return slices.Clone(set)
	}
	if slices.ContainsFunc(caps.Add, isAll) {
		set = allCapabilities[:]
	}
	if slices.ContainsFunc(caps.Drop, isAll) {
		set = nil
		if slices.ContainsFunc(caps.Add, isAll) {
			return []string{} // dropping wins
		}
	}
	set = slices.Clone(set)
	for _, c := range caps.Add {
		if name := capName(c); !isAll(c) && !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	return slices.DeleteFunc(set, func(name string) bool {
		return slices.ContainsFunc(caps.Drop, func(c corev1.Capability) bool { return capName(c) == name })
	})
}

// capabilities returns what the container may do.
func capabilities(in *Input) []string {
	set := Capabilities(askedCapabilities(in.Container))
	if ownsNetwork(in) {
		return set
	}
	return slices.DeleteFunc(set, func(name string) bool { return slices.Contains(networkCapabilities[:], name) })
}

// Withheld returns the capabilities that the container's manifest names and that
// it does not get, because the network is not the pod's.
func Withheld(in *Input) []string {
	asked := askedCapabilities(in.Container)
	if asked == nil || ownsNetwork(in) {
		return nil
	}
	set, all := Capabilities(asked), slices.ContainsFunc(asked.Add, isAll)
	var out []string
	for _, name := range networkCapabilities {
		named := all || slices.ContainsFunc(asked.Add, func(c corev1.Capability) bool { return capName(c) == name })
		if named && slices.Contains(set, name) {
			out = append(out, name)
		}
	}
	return out
}

// askedCapabilities returns what the manifest says about capabilities.
func askedCapabilities(c *corev1.Container) *corev1.Capabilities {
	switch sc := c.SecurityContext; {
	case sc == nil:
		return nil
	case isTrue(sc.Privileged):
		return &corev1.Capabilities{Add: []corev1.Capability{"ALL"}}
	default:
		return sc.Capabilities
	}
}

// ownsNetwork reports whether the container may have power over its network: the pod
// has one of its own, the manifest asks for the machine's, or it is a process of the machine.
func ownsNetwork(in *Input) bool {
	return in.Addresses.Own || in.Pod.Spec.HostNetwork || in.Class == runner.Host
}

func isAll(c corev1.Capability) bool { return strings.EqualFold(string(c), "ALL") }

func capName(c corev1.Capability) string {
	name := strings.ToUpper(string(c))
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	return name
}

// secure fills in who the container runs as and what it may do. It returns the
// user's home directory.
func secure(in *Input, spec *runner.Spec) (home string, err error) {
	pod, own := in.Pod.Spec.SecurityContext, in.Container.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	spec.ReadOnlyRoot = isTrue(own.ReadOnlyRootFilesystem)
	spec.Privileged = isTrue(own.Privileged)
	spec.AllowPrivilegeEscalation = own.AllowPrivilegeEscalation == nil || *own.AllowPrivilegeEscalation || spec.Privileged
	if in.Class == runner.Host {
		spec.Capabilities = hostCapabilities(own.Capabilities)
	} else {
		spec.Capabilities = capabilities(in)
	}
	spec.UnmaskedProc = own.ProcMount != nil && *own.ProcMount == corev1.UnmaskedProcMount
	profile := own.SeccompProfile
	if profile == nil {
		profile = pod.SeccompProfile
	}
	switch {
	case spec.Privileged:
		spec.SeccompUnconfined = true
	case profile == nil:
	case profile.Type == corev1.SeccompProfileTypeUnconfined:
		spec.SeccompUnconfined = true
	case profile.Type == corev1.SeccompProfileTypeLocalhost:
		return "", &ConfigError{"seccompProfile: profiles of type Localhost are not supported by this node"}
	}
	return setUser(in, spec, pod, own)
}

func setUser(in *Input, spec *runner.Spec, pod *corev1.PodSecurityContext, own *corev1.SecurityContext) (home string, err error) {
	uid, gid, nonRoot := own.RunAsUser, own.RunAsGroup, own.RunAsNonRoot
	if uid == nil {
		uid = pod.RunAsUser
	}
	if gid == nil {
		gid = pod.RunAsGroup
	}
	if nonRoot == nil {
		nonRoot = pod.RunAsNonRoot
	}
	if spec.RunAsNonRoot = isTrue(nonRoot); spec.RunAsNonRoot {
		if err := verifyNonRoot(in, uid); err != nil {
			return "", err
		}
	}
	if in.Class == runner.Host {
		setHostUser(spec, uid, gid, pod)
		return "", nil
	}
	name := in.ImageUser
	if uid != nil {
		name = strconv.FormatInt(*uid, 10)
	}
	account, err := in.LookupUser(name)
	if err != nil {
		return "", &runner.StartError{Reason: "CreateContainerError", Message: err.Error()}
	}
	if uid != nil && account.UID != uint32(*uid) {
		return "", &runner.StartError{Reason: "CreateContainerError", Message: fmt.Sprintf("runAsUser %d is user %d of the image", *uid, account.UID)}
	}
	// Checked again, now that the image's files have said which number a name is.
	if isTrue(nonRoot) && account.UID == 0 {
		return "", &ConfigError{"container has runAsNonRoot and image will run as root " + where(in)}
	}
	spec.UID, spec.GID = &account.UID, &account.GID
	if gid != nil {
		g := uint32(*gid)
		spec.GID = &g
	}
	if p := pod.SupplementalGroupsPolicy; p == nil || *p == corev1.SupplementalGroupsPolicyMerge {
		spec.Groups = slices.Clone(account.Groups)
	}
	addGroups(spec, pod)
	// The primary group is among them, as containerd does it: a setgid program
	// must not be a way to lose a group to which a file denies access.
	if !slices.Contains(spec.Groups, *spec.GID) {
		spec.Groups = slices.Insert(spec.Groups, 0, *spec.GID)
	}
	return account.Home, nil
}

func addGroups(spec *runner.Spec, pod *corev1.PodSecurityContext) {
	add := func(g int64) {
		if !slices.Contains(spec.Groups, uint32(g)) {
			spec.Groups = append(spec.Groups, uint32(g))
		}
	}
	for _, g := range pod.SupplementalGroups {
		add(g)
	}
	if pod.FSGroup != nil {
		add(*pod.FSGroup)
	}
}

// verifyNonRoot refuses a container that must not run as root and would, or
// might.
func verifyNonRoot(in *Input, uid *int64) error {
	if uid != nil {
		if *uid == 0 {
			return &ConfigError{"container's runAsUser breaks non-root policy " + where(in)}
		}
		return nil
	}
	if in.Class == runner.Host {
		return nil // the engine's own user, which the runner knows
	}
	user, _, _ := strings.Cut(in.ImageUser, ":")
	if n, err := strconv.ParseInt(user, 10, 64); err == nil && n != 0 {
		return nil
	} else if err != nil && user != "" {
		return &ConfigError{fmt.Sprintf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", user, where(in))}
	}
	return &ConfigError{"container has runAsNonRoot and image will run as root " + where(in)}
}

// where names the container in a kubelet's messages.
func where(in *Input) string {
	return fmt.Sprintf("(pod: %q, container: %s)", PodName(in.Pod), in.Container.Name)
}

// PodName names a pod in the messages of a node: name_namespace(uid).
func PodName(pod *corev1.Pod) string {
	return pod.Name + "_" + pod.Namespace + "(" + string(pod.UID) + ")"
}
