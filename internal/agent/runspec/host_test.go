package runspec

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
)

// hostInput is that of a process of the machine.
func hostInput(own *corev1.SecurityContext) *Input {
	in := testInput(corev1.Container{Name: "c", Command: []string{"true"}, SecurityContext: own})
	in.Class, in.LookupUser = runner.Host, nil
	in.ImageEnv = []string{"PATH=/bin", "HOME=/home/engine", "USER=engine"}
	return in
}

// Nothing said means nothing taken away.
func TestHostRights(t *testing.T) {
	t.Parallel()
	spec, err := New(hostInput(nil), api)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Capabilities != nil || !spec.AllowPrivilegeEscalation || spec.RunAsNonRoot || spec.UID != nil || spec.GID != nil {
		t.Errorf("nothing said: %+v", spec)
	}
	if want := []string{"PATH=/bin", "HOME=/home/engine", "USER=engine"}; !slices.Equal(spec.Env, want) {
		t.Errorf("nothing said: %q", spec.Env)
	}
	spec, err = New(hostInput(&corev1.SecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](1000), AllowPrivilegeEscalation: ptr.To(false),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}), api)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Capabilities == nil || len(spec.Capabilities) > 0 || spec.AllowPrivilegeEscalation || !spec.RunAsNonRoot ||
		*spec.UID != 1000 || spec.GID != nil {
		t.Errorf("restricted: %+v", spec)
	}
	if want := []string{"PATH=/bin"}; !slices.Equal(spec.Env, want) {
		t.Errorf("another user has the engine's %q", spec.Env)
	}
}

func TestHostCapabilities(t *testing.T) {
	t.Parallel()
	caps := func(drop string, add ...corev1.Capability) *corev1.Capabilities {
		return &corev1.Capabilities{Drop: []corev1.Capability{corev1.Capability(drop)}, Add: add}
	}
	if got := hostCapabilities(&corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}); got != nil {
		t.Errorf("nothing dropped: %q", got)
	}
	if got := hostCapabilities(caps("all", "NET_ADMIN")); !slices.Equal(got, []string{"CAP_NET_ADMIN"}) {
		t.Errorf("all but one: %q", got)
	}
	if got := hostCapabilities(caps("ALL", "ALL")); got == nil || len(got) > 0 {
		t.Errorf("dropping wins: %q", got)
	}
	if got := hostCapabilities(caps("NET_RAW")); len(got) != len(allCapabilities)-1 || slices.Contains(got, "CAP_NET_RAW") {
		t.Errorf("one dropped: %q", got)
	}
}

func TestHostIgnores(t *testing.T) {
	t.Parallel()
	in := hostInput(nil)
	if got := HostIgnores(in.Pod, in.Container); got != nil {
		t.Errorf("nothing said: %q", got)
	}
	in = hostInput(&corev1.SecurityContext{
		ReadOnlyRootFilesystem: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false), RunAsNonRoot: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
	})
	in.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	in.Pod.Spec.HostUsers = ptr.To(false)
	want := []string{"capabilities.add", "readOnlyRootFilesystem", "seccompProfile", "hostUsers: false"}
	if got := HostIgnores(in.Pod, in.Container); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
