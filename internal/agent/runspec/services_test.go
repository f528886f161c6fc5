package runspec

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func namedService(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	s.Spec.ClusterIP, s.Spec.Ports = ip, ports
	return s
}

// TestServiceVariables: names and values are a kubelet's.
func TestServiceVariables(t *testing.T) {
	t.Parallel()
	in := testInput(corev1.Container{Env: []corev1.EnvVar{
		{Name: "URL", Value: "$(REDIS_PRIMARY_SERVICE_HOST):$(REDIS_PRIMARY_SERVICE_PORT)"}, {Name: "REDIS_PRIMARY_PORT", Value: "mine"},
	}})
	in.API = netip.MustParseAddrPort("192.0.2.9:6443")
	in.Services = func() ([]*corev1.Service, error) {
		return []*corev1.Service{
			namedService("ns", "bare", "None"),
			namedService("ns", "broken", "10.96.0.4"),
			namedService("ns", "redis-primary", "10.96.0.11", corev1.ServicePort{Name: "redis", Port: 6379, Protocol: corev1.ProtocolTCP}, corev1.ServicePort{Name: "bus-udp", Port: 53, Protocol: corev1.ProtocolUDP}),
			namedService("default", "kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443}),
		}, nil
	}
	const want = `URL=10.96.0.11:6379
REDIS_PRIMARY_PORT=mine
KUBERNETES_SERVICE_HOST=192.0.2.9
KUBERNETES_SERVICE_PORT=6443
KUBERNETES_SERVICE_PORT_HTTPS=6443
KUBERNETES_PORT=tcp://192.0.2.9:6443
KUBERNETES_PORT_6443_TCP=tcp://192.0.2.9:6443
KUBERNETES_PORT_6443_TCP_PROTO=tcp
KUBERNETES_PORT_6443_TCP_PORT=6443
KUBERNETES_PORT_6443_TCP_ADDR=192.0.2.9
REDIS_PRIMARY_SERVICE_HOST=10.96.0.11
REDIS_PRIMARY_SERVICE_PORT=6379
REDIS_PRIMARY_SERVICE_PORT_REDIS=6379
REDIS_PRIMARY_SERVICE_PORT_BUS_UDP=53
REDIS_PRIMARY_PORT_6379_TCP=tcp://10.96.0.11:6379
REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp
REDIS_PRIMARY_PORT_6379_TCP_PORT=6379
REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.96.0.11
REDIS_PRIMARY_PORT_53_UDP=udp://10.96.0.11:53
REDIS_PRIMARY_PORT_53_UDP_PROTO=udp
REDIS_PRIMARY_PORT_53_UDP_PORT=53
REDIS_PRIMARY_PORT_53_UDP_ADDR=10.96.0.11`
	env, err := Environment(in, api)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(env.list, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	in.Pod.Spec.EnableServiceLinks, in.API = ptr.To(false), netip.AddrPort{}
	if env, err := Environment(in, api); err != nil || strings.Contains(strings.Join(env.list, "\n"), "_SERVICE_HOST=") {
		t.Errorf("without links: %v %v", env.list, err)
	}
	in.Pod.Spec.EnableServiceLinks = nil
	in.Services = func() ([]*corev1.Service, error) { return nil, errors.New("no answer") }
	if _, err := Environment(in, api); err == nil {
		t.Error("that the services cannot be read is no error")
	}
}
