package network

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		"p":    {ObjectMeta: metav1.ObjectMeta{Name: "p"}},
		"own":  {ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Hostname: "own"}},
		"node": {ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Hostname: "own", HostNetwork: true}},
		long:   {ObjectMeta: metav1.ObjectMeta{Name: long + "-.y"}}, // 63 characters, and no end that a label may not have
	} {
		if got := Hostname(pod, "node"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
