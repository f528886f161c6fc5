package podspec

import (
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// operatingSystem checks the pod's operating system, and that nothing is set
// that this system does not have.
func (c *checker) operatingSystem(path *field.Path) {
	os := c.spec.OS
	if os == nil {
		return
	}
	switch os.Name {
	case "":
		c.required(path.Child("os", "name"), "")
	case corev1.Linux:
		c.onlyLinux(path)
	case corev1.Windows:
		c.onlyWindows(path)
	default:
		oneOf(c, path.Child("os"), os.Name, corev1.Linux, corev1.Windows)
	}
}

func (c *checker) onlyLinux(path *field.Path) {
	const detail = "windows options cannot be set for a linux pod"
	if sc := c.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		c.forbidden(path.Child("securityContext", "windowsOptions"), detail)
	}
	visitContainers(c.spec, path, func(ctr *corev1.Container, at *field.Path) {
		if sc := ctr.SecurityContext; sc != nil && sc.WindowsOptions != nil {
			c.forbidden(at.Child("securityContext", "windowsOptions"), detail)
		}
	})
}

// onlyWindows refuses the fields that Linux alone has, in Kubernetes' order.
func (c *checker) onlyWindows(path *field.Path) {
	if sc := c.spec.SecurityContext; sc != nil {
		c.notOnWindows(path.Child("securityContext"), *sc, "AppArmorProfile", "SELinuxOptions", "SeccompProfile",
			"FSGroup", "FSGroupChangePolicy", "Sysctls", "RunAsUser", "RunAsGroup", "SupplementalGroups",
			"SupplementalGroupsPolicy", "SELinuxChangePolicy")
	}
	c.notOnWindows(path, *c.spec, "HostUsers", "HostPID", "HostIPC", "ShareProcessNamespace")
	visitContainers(c.spec, path, func(ctr *corev1.Container, at *field.Path) {
		if sc := ctr.SecurityContext; sc != nil {
			c.notOnWindows(at.Child("securityContext"), *sc, "AppArmorProfile", "SELinuxOptions", "SeccompProfile",
				"Capabilities", "ReadOnlyRootFilesystem", "Privileged", "AllowPrivilegeEscalation", "ProcMount",
				"RunAsUser", "RunAsGroup")
		}
	})
}

// notOnWindows refuses the named fields of the struct value, if they are set.
func (c *checker) notOnWindows(path *field.Path, value any, fields ...string) {
	v := reflect.ValueOf(value)
	for _, name := range fields {
		f, _ := v.Type().FieldByName(name)
		if v.FieldByName(name).IsZero() {
			continue
		}
		json, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		c.forbidden(path.Child(json), "cannot be set for a windows pod")
	}
}

// windowsHostProcess demands that all containers of a pod agree on being
// processes of a Windows host, and then use its network.
func (c *checker) windowsHostProcess(path *field.Path) {
	var pod *bool
	if sc := c.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		pod = sc.WindowsOptions.HostProcess
	}
	all, host := 0, 0
	visitContainers(c.spec, path, func(ctr *corev1.Container, at *field.Path) {
		all++
		own := pod
		if sc := ctr.SecurityContext; sc != nil && sc.WindowsOptions != nil && sc.WindowsOptions.HostProcess != nil {
			own = sc.WindowsOptions.HostProcess
			if pod != nil && *pod != *own {
				c.invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own,
					fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *pod))
			}
		}
		if own != nil && *own {
			host++
		}
	})
	if host == 0 {
		return
	}
	if host != all {
		c.invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers")
	}
	if !c.spec.HostNetwork {
		c.invalid(path.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers")
	}
}
