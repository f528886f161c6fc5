package podspec

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"
	"k8s.io/utils/ptr"
)

// podSecurityContext checks what holds for all containers of the pod.
func (c *checker) podSecurityContext(path *field.Path) {
	sc := c.spec.SecurityContext
	if sc == nil {
		return
	}
	c.groupID(path.Child("fsGroup"), sc.FSGroup)
	c.userID(path.Child("runAsUser"), sc.RunAsUser)
	c.groupID(path.Child("runAsGroup"), sc.RunAsGroup)
	for i := range sc.SupplementalGroups {
		c.groupID(path.Child("supplementalGroups").Index(i), &sc.SupplementalGroups[i])
	}
	c.sysctls(path.Child("sysctls"), sc.Sysctls)
	if sc.FSGroupChangePolicy != nil {
		oneOf(c, path.Child("fsGroupChangePolicy"), *sc.FSGroupChangePolicy,
			corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
	}
	c.seccompProfile(path.Child("seccompProfile"), sc.SeccompProfile)
	c.windowsOptions(path.Child("windowsOptions"), sc.WindowsOptions)
	c.appArmorProfile(path.Child("appArmorProfile"), sc.AppArmorProfile)
	if sc.SupplementalGroupsPolicy != nil {
		oneOf(c, path.Child("supplementalGroupsPolicy"), *sc.SupplementalGroupsPolicy,
			corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if sc.SELinuxChangePolicy != nil {
		oneOf(c, path.Child("seLinuxChangePolicy"), *sc.SELinuxChangePolicy,
			corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)
	}
}

func (c *checker) userID(path *field.Path, id *int64) {
	if id != nil {
		c.invalidEach(path, *id, validation.IsValidUserID(*id))
	}
}

func (c *checker) groupID(path *field.Path, id *int64) {
	if id != nil {
		c.invalidEach(path, *id, validation.IsValidGroupID(*id))
	}
}

// sysctlName is a kernel parameter, with dots or slashes.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

func (c *checker) sysctls(path *field.Path, list []corev1.Sysctl) {
	const maxLength = 253
	seen := sets.New[string]()
	for i, s := range list {
		at := path.Index(i).Child("name")
		switch {
		case s.Name == "":
			c.required(at, "")
		case len(s.Name) > maxLength || !sysctlName.MatchString(s.Name):
			c.invalid(at, s.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxLength, sysctlName))
		case seen.Has(s.Name):
			c.add(field.Duplicate(at, s.Name))
		}
		switch ns, _, _ := sysctl.GetNamespace(s.Name); {
		case c.spec.HostNetwork && ns == sysctl.NetNamespace:
			c.addRule(ruleHostSysctl, field.Invalid(at, s.Name, "may not be specified when 'hostNetwork' is true"))
		case c.spec.HostIPC && ns == sysctl.IPCNamespace:
			c.addRule(ruleHostSysctl, field.Invalid(at, s.Name, "may not be specified when 'hostIPC' is true"))
		}
		seen.Insert(s.Name)
	}
}

// securityContext checks what holds for one container.
func (c *checker) securityContext(path *field.Path, sc *corev1.SecurityContext) {
	if sc == nil {
		return
	}
	c.userID(path.Child("runAsUser"), sc.RunAsUser)
	c.groupID(path.Child("runAsGroup"), sc.RunAsGroup)
	if sc.ProcMount != nil {
		oneOf(c, path.Child("procMount"), *sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if ptr.Deref(c.spec.HostUsers, true) && *sc.ProcMount == corev1.UnmaskedProcMount {
			c.invalid(path.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	c.seccompProfile(path.Child("seccompProfile"), sc.SeccompProfile)
	if !ptr.Deref(sc.AllowPrivilegeEscalation, true) {
		if ptr.Deref(sc.Privileged, false) {
			c.invalid(path, Internal(sc), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
		}
		if sc.Capabilities != nil && slices.Contains(sc.Capabilities.Add, "CAP_SYS_ADMIN") {
			c.addRule(ruleSysAdmin, field.Invalid(path, Internal(sc),
				"cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
		}
	}
	c.windowsOptions(path.Child("windowsOptions"), sc.WindowsOptions)
	c.appArmorProfile(path.Child("appArmorProfile"), sc.AppArmorProfile)
}

func (c *checker) seccompProfile(path *field.Path, p *corev1.SeccompProfile) {
	if p == nil {
		return
	}
	if p.Type == "" {
		c.required(path.Child("type"), "type is required when seccompProfile is set")
	} else {
		oneOf(c, path.Child("type"), p.Type, corev1.SeccompProfileTypeLocalhost,
			corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	}
	local := path.Child("localhostProfile")
	switch {
	case p.Type != corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile != nil {
			c.invalid(local, Internal(p), "can only be set when seccomp type is Localhost")
		}
	case p.LocalhostProfile == nil:
		c.required(local, "must be set when seccomp type is Localhost")
	default:
		c.descendingPath(local, *p.LocalhostProfile)
	}
}

func (c *checker) appArmorProfile(path *field.Path, p *corev1.AppArmorProfile) {
	if p == nil {
		return
	}
	local := path.Child("localhostProfile")
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		c.appArmorFile(local, p.LocalhostProfile)
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			c.invalid(local, p.LocalhostProfile, "can only be set when AppArmor type is Localhost")
		}
	case "":
		c.required(path.Child("type"), "type is required when appArmorProfile is set")
	default:
		oneOf(c, path.Child("type"), p.Type, corev1.AppArmorProfileTypeLocalhost,
			corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	}
}

func (c *checker) appArmorFile(path *field.Path, name *string) {
	const maxLength = 4095 // PATH_MAX without its terminating zero
	if name == nil {
		c.required(path, "must be set when AppArmor type is Localhost")
		return
	}
	if trimmed := strings.TrimSpace(*name); trimmed != *name {
		c.invalid(path, *name, "must not be padded with whitespace")
	} else if trimmed == "" {
		c.required(path, "must be set when AppArmor type is Localhost")
	}
	if len(*name) > maxLength {
		c.add(field.TooLong(path, "", maxLength))
	}
}
