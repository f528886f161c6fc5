package agent

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"

	"github.com/sampan-batch/sampan/internal/agent/eviction"
	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/reason"
)

// refusal is why a node does not take a pod that is bound to it: the pod has
// failed, and nothing of it was started.
type refusal struct{ reason, message string }

// admit returns why the node does not take the pod, nil if it does. A pod of which
// anything was started has been taken.
func (p *pod) admit() *refusal {
	if p.state.Begun() {
		return nil
	}
	if message := eviction.Refuses(p.Node.Pressures(), p.state.Object); message != "" {
		return &refusal{reason.Evicted, message}
	}
	if r := forbids(p.state.Object); r != nil {
		return r
	}
	return p.unfit()
}

// unfit returns why the node has no place for the pod, nil if it has.
func (p *pod) unfit() *refusal {
	if acknowledged(p.state.Object) {
		return nil
	}
	node, err := p.Node.Stored(p.ctx)
	if err != nil { // it has been deleted, and registers again soon
		return nil
	}
	if r := p.takings.take(node, p.ref.UID, p.state.Object); r != nil {
		return &refusal{r.Reason, r.Message}
	}
	return nil
}

// refuse ends a pod that the node does not take.
func (p *pod) refuse(r *refusal) {
	p.note(warning, r.reason, r.message)
	p.end(podstate.Ending{
		Since: time.Now(), Failed: true, Refused: true,
		Reason: r.reason, Message: "Pod was rejected: " + r.message,
	})
}

// forbids returns why this node may not run the pod whatever its state, nil if it
// may: a kubelet's admission.
func forbids(pod *corev1.Pod) *refusal {
	if name, ok := pod.Labels[corev1.LabelOSStable]; ok && name != runtime.GOOS {
		return &refusal{reason.PodOSSelectorNodeLabelDoesNotMatch, "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if os := pod.Spec.OS; os != nil && string(os.Name) != runtime.GOOS {
		return &refusal{reason.PodOSNotSupported, "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if err := forbiddenSysctl(pod); err != nil {
		return &refusal{reason.SysctlForbidden, fmt.Sprintf("forbidden sysctl: %v", err)}
	}
	if _, local := appArmor(pod); local {
		return &refusal{reason.AppArmor, "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
	}
	return nil
}

// safeSysctls are the kernel parameters that a kubelet lets every pod set.
var safeSysctls = [...]string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat",
}

// forbiddenSysctl says which kernel parameter the pod may not set.
func forbiddenSysctl(pod *corev1.Pod) error {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		name := sysctl.NormalizeName(s.Name)
		if !slices.Contains(safeSysctls[:], name) {
			return fmt.Errorf("%q not allowlisted", name)
		}
		ns, _, _ := sysctl.GetNamespace(name)
		if ns == sysctl.IPCNamespace && pod.Spec.HostIPC || ns == sysctl.NetNamespace && pod.Spec.HostNetwork {
			return fmt.Errorf("%q not allowed with host %s enabled", name, ns)
		}
	}
	return nil
}

// unenforced names what the pod's manifest says about its security, and what has
// no effect here, "" if nothing.
func unenforced(pod *corev1.Pod) string {
	var list []string
	selinux := pod.Spec.SecurityContext != nil && pod.Spec.SecurityContext.SELinuxOptions != nil
	eachContainer(pod, func(c *corev1.Container) {
		selinux = selinux || c.SecurityContext != nil && c.SecurityContext.SELinuxOptions != nil
	})
	if asked, _ := appArmor(pod); asked {
		list = append(list, "appArmorProfile")
	}
	if selinux {
		list = append(list, "seLinuxOptions")
	}
	return strings.Join(list, ", ")
}

// appArmor reports whether the pod asks for a profile of AppArmor, and whether it
// names one of its own.
func appArmor(pod *corev1.Pod) (asked, local bool) {
	look := func(p *corev1.AppArmorProfile) {
		if p != nil {
			asked = asked || p.Type != corev1.AppArmorProfileTypeUnconfined
			local = local || p.Type == corev1.AppArmorProfileTypeLocalhost
		}
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		look(sc.AppArmorProfile)
	}
	eachContainer(pod, func(c *corev1.Container) {
		if c.SecurityContext != nil {
			look(c.SecurityContext.AppArmorProfile)
		}
	})
	return asked, local
}
