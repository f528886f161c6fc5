package agent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
)

// TestRefused: what a kubelet does not admit fails at once, and nothing of it is
// started.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		edit            func(*corev1.PodSpec)
		reason, message string
	}{
		"unsafe sysctl": {
			func(s *corev1.PodSpec) {
				s.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel/msgmax", Value: "1"}}}
			},
			"SysctlForbidden", `forbidden sysctl: "kernel.msgmax" not allowlisted`,
		},
		"sysctl of the host": {
			func(s *corev1.PodSpec) {
				s.HostNetwork = true
				s.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.tcp_syncookies", Value: "1"}}}
			},
			"SysctlForbidden", `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`,
		},
		"sysctl of the host's memory": {
			func(s *corev1.PodSpec) {
				s.HostIPC = true
				s.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.shm_rmid_forced", Value: "1"}}}
			},
			"SysctlForbidden", `forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled`,
		},
		"another system": {
			func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} },
			"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS",
		},
		"a profile of its own": {
			func(s *corev1.PodSpec) {
				s.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{
					Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("tight"),
				}}
			},
			"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host",
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			story(t, func(b *bench) {
				b.put(testPod("p", func(p *corev1.Pod) { test.edit(&p.Spec) }))
				after(time.Second)
				b.want("p", corev1.PodFailed)
				s := b.get("p").Status
				if s.Reason != test.reason || s.Message != "Pod was rejected: "+test.message {
					t.Errorf("got %s: %s", s.Reason, s.Message)
				}
				if len(s.ContainerStatuses) > 0 || len(b.run.traced()) != 1 || condition(b.get("p"), corev1.PodScheduled) != "True" {
					t.Errorf("got %+v after %q", s, b.run.traced())
				}
				b.wantEvents(test.reason + ": " + test.message)
				b.kill("p", -1)
				after(time.Second)
				if b.get("p") != nil {
					t.Error("cannot be deleted")
				}
			})
		})
	}
}

// TestRefusedByItsLabel: a kubelet looks at a pod's own label, too.
func TestRefusedByItsLabel(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) { p.Labels = map[string]string{corev1.LabelOSStable: "windows"} }))
		b.put(testPod("q", func(p *corev1.Pod) { p.Labels = map[string]string{corev1.LabelOSStable: "linux"} }))
		after(time.Second)
		if s := b.get("p").Status; s.Phase != corev1.PodFailed || s.Reason != "PodOSSelectorNodeLabelDoesNotMatch" {
			t.Errorf("got %s: %s", s.Phase, s.Reason)
		}
		b.want("q", corev1.PodRunning)
	})
}

// TestDevicesAreNotHere: who was bound here by hand, past the scheduler, does not run without the
// device that it claims.
func TestDevicesAreNotHere(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr.To("gpu")}}
		}))
		after(time.Minute)
		b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
		b.wantEvents(`FailedPrepareDynamicResources: Failed to prepare dynamic resources: "gpu": there are no devices on this node that could be claimed`)
	})
}

// TestWithoutEffect: what is accepted and does nothing is said once.
func TestWithoutEffect(t *testing.T) {
	story(t, func(b *bench) {
		b.run.scripts["c"] = []script{{runs: time.Second, code: 1}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			p.Spec.SecurityContext = &corev1.PodSecurityContext{
				AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault},
				Sysctls:         []corev1.Sysctl{{Name: "net/ipv4/tcp_syncookies", Value: "1"}, {Name: "kernel.shm_rmid_forced", Value: "1"}},
			}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
				SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"},
				Capabilities:   &corev1.Capabilities{Add: []corev1.Capability{"NET_RAW", "net_admin"}},
			}
		}))
		after(5 * time.Second)
		b.stop()
		b.boot()
		after(20 * time.Second)
		for _, want := range []string{
			"NotEnforced: No effect on this node: appArmorProfile, seLinuxOptions",
			"CapabilityWithheld: Container c does not get CAP_NET_ADMIN and CAP_NET_RAW: pods share this machine's network, and only those with hostNetwork: true have power over it",
			"NotEnforced: No effect on this node: sysctl net.ipv4.tcp_syncookies, as pods share this machine's network",
		} {
			n := 0
			for _, got := range b.events() {
				if got == want {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d times: %s", n, want)
			}
		}
		if n := len(b.run.starts["c"]); n < 3 {
			t.Errorf("started %d times", n)
		}
		b.kill("p", 0)
		after(time.Second)
	})
}

func TestHostUsers(t *testing.T) {
	pod := func(class *string) *corev1.Pod {
		return testPod("p", func(p *corev1.Pod) { p.Spec.HostUsers, p.Spec.RuntimeClassName = ptr.To(false), class })
	}
	for _, test := range []struct {
		userns  bool
		class   *string
		refused string
	}{
		{true, nil, ""},
		{true, ptr.To("sandbox"), ""},
		{true, ptr.To("host"), "can't set `spec.hostUsers: false`, RuntimeClass handler \"host\" does not support user namespaces"},
		{false, nil, "can't set `spec.hostUsers: false`, runtime does not support user namespaces"},
		{false, ptr.To("sandbox"), "can't set `spec.hostUsers: false`, RuntimeClass handler \"sandbox\" does not support user namespaces"},
	} {
		t.Run("", func(t *testing.T) {
			story(t, func(b *bench) {
				b.agent.services.UserNamespace = test.userns
				b.put(pod(test.class))
				after(time.Second)
				if test.refused == "" {
					b.want("p", corev1.PodRunning)
					return
				}
				b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
				b.wantEvents("FailedCreatePodSandBox: Failed to create pod sandbox: " + test.refused)
				b.kill("p", -1)
				after(time.Second)
				if b.get("p") != nil || len(b.run.specs)+len(b.host.specs) > 0 {
					t.Error("it was started, or cannot be deleted")
				}
			})
		})
	}
}

func TestPodPids(t *testing.T) {
	story(t, func(b *bench) {
		b.agent.services.PodPids = 99
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}))
		after(time.Second)
		if got := b.run.specs[0].PodPids; got != 99 {
			t.Errorf("got %d", got)
		}
		if b.run.specs[0].Class != runner.Sandbox {
			t.Error("not a sandbox")
		}
	})
}
