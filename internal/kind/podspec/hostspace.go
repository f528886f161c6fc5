package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// sharedProcessNamespace refuses to share both with the host and in the pod.
func (c *checker) sharedProcessNamespace(path *field.Path) {
	if c.spec.HostPID && ptr.Deref(c.spec.ShareProcessNamespace, false) {
		c.invalid(path, true, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
}

// hostUsers refuses namespaces of the host in a pod with users of its own.
func (c *checker) hostUsers(path *field.Path) {
	const detail = "when `hostUsers` is false"
	if ptr.Deref(c.spec.HostUsers, true) {
		return
	}
	if c.spec.HostNetwork {
		c.forbidden(path.Child("hostNetwork"), detail)
	}
	if c.spec.HostPID {
		c.forbidden(path.Child("HostPID"), detail)
	}
	if c.spec.HostIPC {
		c.forbidden(path.Child("HostIPC"), detail)
	}
	visitContainers(c.spec, path, func(ctr *corev1.Container, at *field.Path) {
		if len(ctr.VolumeDevices) > 0 {
			c.addRule(ruleHostUsersDevices, field.Forbidden(at.Child("volumeDevices"), detail))
		}
	})
}

// hostnameOverride checks the name that replaces hostname and subdomain.
func (c *checker) hostnameOverride(path *field.Path) {
	const maxLength = 64
	name := c.spec.HostnameOverride
	if name == nil {
		return
	}
	if ptr.Deref(c.spec.SetHostnameAsFQDN, false) {
		c.forbidden(path, "may not be specified when setHostnameAsFQDN is true")
	}
	if c.spec.HostNetwork {
		c.forbidden(path, "may not be specified when hostNetwork is true")
	}
	if len(*name) > maxLength {
		c.add(field.TooLong(path, "", maxLength))
	}
	c.dnsSubdomain(path, *name)
}
