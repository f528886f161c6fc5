package network

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestNoAddress(t *testing.T) {
	t.Parallel()
	var at Addresses
	if at.PodIP() != "" || at.NodeIP() != "" {
		t.Errorf("got %+v", at)
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 62)
	for want, pod := range map[string]*corev1.Pod{
		"p":         {ObjectMeta: metav1.ObjectMeta{Name: "p"}},
		"own":       {ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Hostname: "own"}},
		"over.ride": {ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Hostname: "own", Subdomain: "web", HostnameOverride: ptr.To("over.ride")}},
		"node":      {ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Hostname: "own", HostNetwork: true}},
		long:        {ObjectMeta: metav1.ObjectMeta{Name: long + "-.y"}}, // 63 characters, and no end that a label may not have
	} {
		if got := Hostname(pod, "node"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestNodename: a pod that wants its full name for that of its machine has it, if the kernel has room.
func TestNodename(t *testing.T) {
	t.Parallel()
	pod := func(subdomain string, edit func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: corev1.PodSpec{Subdomain: subdomain, SetHostnameAsFQDN: ptr.To(true)}}
		if edit != nil {
			edit(&p.Spec)
		}
		return p
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"full":         {pod("web", nil), "p.web.ns.svc.cluster.local"},
		"not asked":    {pod("web", func(s *corev1.PodSpec) { s.SetHostnameAsFQDN = ptr.To(false) }), "p"},
		"no subdomain": {pod("", nil), "p"},
		"the machine":  {pod("web", func(s *corev1.PodSpec) { s.HostNetwork = true }), "node"},
		"another name": {pod("web", func(s *corev1.PodSpec) { s.SetHostnameAsFQDN, s.HostnameOverride = nil, ptr.To("over.ride") }), "over.ride"},
		"too long": {pod(strings.Repeat("w", 50), nil), "failed to construct FQDN from pod hostname and cluster domain, FQDN p." + strings.Repeat("w", 50) +
			".ns.svc.cluster.local is too long (64 characters is the max, 73 characters requested)"},
	} {
		got, err := Nodename(c.pod, "node")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
