package proxy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/network"
)

func service(edit func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.1.1", ClusterIPs: []string{"10.96.1.1"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

// slice has the port http at 8080, and endpoints with these conditions: ready, serving, terminating.
func slice(conditions ...[3]bool) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: "web-x", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To[int32](8080)}},
	}
	for i, c := range conditions {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprint("10.244.0.", 9-i)},
			Conditions: discoveryv1.EndpointConditions{Ready: &c[0], Serving: &c[1], Terminating: &c[2]},
			NodeName:   ptr.To([]string{"one", "two"}[i%2]),
		})
	}
	return s
}

var local = Machine{NodePorts: loopback[:1]}

var (
	ready   = [3]bool{true, true, false}
	unready = [3]bool{false, false, false}
	ending  = [3]bool{false, true, true}
	ended   = [3]bool{false, false, true}
)

func TestTable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    string
	}{
		"ready endpoints, in order": {service(nil), []*discoveryv1.EndpointSlice{slice(ready, unready, ready, ending)},
			"[{10.96.1.1:80/6 [10.244.0.7:8080 10.244.0.9:8080] false false}]"},
		"those that end, when no other is": {service(nil), []*discoveryv1.EndpointSlice{slice(unready, ending, ended)},
			"[{10.96.1.1:80/6 [10.244.0.8:8080] false false}]"},
		"nobody": {service(nil), nil, "[{10.96.1.1:80/6 [] false false}]"},
		"an endpoint that says nothing is ready": {service(nil), []*discoveryv1.EndpointSlice{func() *discoveryv1.EndpointSlice {
			s := slice(ready)
			s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{}
			return s
		}()}, "[{10.96.1.1:80/6 [10.244.0.9:8080] false false}]"},
		"sticky":          {service(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), nil, "[{10.96.1.1:80/6 [] false true}]"},
		"another proxy's": {service(func(s *corev1.Service) { s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "x"} }), nil, "[]"},
		"endpoints for their names only": {service(nil), []*discoveryv1.EndpointSlice{func() *discoveryv1.EndpointSlice {
			s := slice(ready)
			s.Labels[corev1.IsHeadlessService] = ""
			return s
		}()}, "[{10.96.1.1:80/6 [] false false}]"},
		"headless": {service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }),
			[]*discoveryv1.EndpointSlice{slice(ready)}, "[]"},
		"a port of the machine": {service(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30080 }), []*discoveryv1.EndpointSlice{slice(ready)},
			"[{127.0.0.1:30080/6 [10.244.0.9:8080] true false} {10.96.1.1:80/6 [10.244.0.9:8080] false false}]"},
		"endpoints on the node, for who is inside": {service(func(s *corev1.Service) {
			s.Spec.Ports[0].NodePort, s.Spec.InternalTrafficPolicy = 30080, ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
		}), []*discoveryv1.EndpointSlice{slice(ready, ready)},
			"[{127.0.0.1:30080/6 [10.244.0.8:8080 10.244.0.9:8080] true false} {10.96.1.1:80/6 [10.244.0.9:8080] false false}]"},
		"and for who comes from outside": {service(func(s *corev1.Service) {
			s.Spec.Ports[0].NodePort, s.Spec.ExternalTrafficPolicy = 30080, corev1.ServiceExternalTrafficPolicyLocal
		}), []*discoveryv1.EndpointSlice{slice(ready, ready)},
			"[{127.0.0.1:30080/6 [10.244.0.9:8080] true false} {10.96.1.1:80/6 [10.244.0.8:8080 10.244.0.9:8080] false false}]"},
		"a port of the machine is another node's": {service(func(s *corev1.Service) {
			s.Spec.Ports[0].NodePort, s.Spec.ExternalTrafficPolicy = 30080, corev1.ServiceExternalTrafficPolicyLocal
		}), []*discoveryv1.EndpointSlice{slice(unready, ready)}, "[{10.96.1.1:80/6 [10.244.0.8:8080] false false}]"},
		"a name elsewhere": {service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, "[]"},
		"another port and another protocol": {service(func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports,
				corev1.ServicePort{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, corev1.ServicePort{Name: "s", Protocol: corev1.ProtocolSCTP, Port: 9})
		}), []*discoveryv1.EndpointSlice{slice(ready)}, "[{10.96.1.1:80/6 [10.244.0.9:8080] false false} {10.96.1.1:53/17 [] false false}]"},
		"other addresses": {service(func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"198.51.100.7", "fd00::1"}
		}), nil, "[{10.96.1.1:80/6 [] false false} {198.51.100.7:80/6 [] false false}]"},
		"addresses of others": {service(func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"10.96.0.1", "10.96.0.10", "10.244.0.7", "198.51.100.7"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.96.1.2"}}
		}), nil, "[{10.96.1.1:80/6 [] false false} {198.51.100.7:80/6 [] false false}]"},
		"the address of the names": {service(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.10"} }), []*discoveryv1.EndpointSlice{slice(ready)}, "[]"},
		"another Service's": {service(func(s *corev1.Service) { s.Namespace = "other" }), []*discoveryv1.EndpointSlice{slice(ready)},
			"[{10.96.1.1:80/6 [] false false}]"},
		"IPv6 is left out": {service(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"fd00::1"} }), nil, "[]"},
	} {
		if got := fmt.Sprint(Table("one", local, []*corev1.Service{test.service}, test.slices)); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
	// Of two Services that say they are at the same place, the first is.
	twice := []*corev1.Service{service(nil), service(func(s *corev1.Service) { s.Name = "b" })}
	if got := Table("one", local, twice, []*discoveryv1.EndpointSlice{slice(ready)}); len(got) != 1 || len(got[0].Endpoints) != 1 ||
		got[0].At != (network.Port{Address: netip.MustParseAddr("10.96.1.1"), Port: 80, Protocol: network.TCP}) {
		t.Errorf("got %v", got)
	}
}

// TestNodePortAddresses reads what kube-proxy reads.
func TestNodePortAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                          "[127.0.0.1 ::1]",
		"primary":                   "[192.0.2.7 2001:db8::1]",
		"198.51.100.0/24":           "[198.51.100.9]",
		"0.0.0.0/0":                 "[192.0.2.7 198.51.100.9 127.0.0.1]",
		"192.0.2.7/32, 127.0.0.0/8": "[192.0.2.7 127.0.0.1]",
		"::/0":                      "[2001:db8::1 ::1]",
		"2001:db8::/32,::1/128":     "[2001:db8::1 ::1]",
		"203.0.113.0/24":            "[]",
		"192.0.2.7":                 `"192.0.2.7" is no range of addresses, as 192.0.2.0/24, and not "primary"`,
		"127.0.0.0/8,":              `"" is no range of addresses, as 192.0.2.0/24, and not "primary"`,
	} {
		m, err := MachineOf([]string{"192.0.2.7", "2001:db8::1", "198.51.100.9"}, text)
		got := fmt.Sprint(m.NodePorts)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// TestBothFamilies: each address of a Service leads to endpoints of its family, and none is at an address of a
// family that it has not.
func TestBothFamilies(t *testing.T) {
	t.Parallel()
	machine, err := MachineOf([]string{"192.0.2.7", "2001:db8::1", "fd00:10:244::1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	s := service(func(s *corev1.Service) {
		s.Spec.Ports[0].NodePort = 30080
		s.Spec.ClusterIPs = []string{"10.96.1.1", "fd00:10:96::11"}
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		s.Spec.ExternalIPs = []string{"2001:db8::5", "fd00:10:244::5", "fd00:10:96::5", "::ffff:10.96.0.1"}
	})
	four, six, odd := slice(ready), slice(ready, unready), slice(ready)
	six.AddressType, odd.AddressType = discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeIPv6
	six.Endpoints[0].Addresses, six.Endpoints[1].Addresses = []string{"fd00:10:244::9"}, []string{"fd00:10:244::8"}
	slices := []*discoveryv1.EndpointSlice{four, six, odd} // the last is about addresses of the other family
	want := "[{127.0.0.1:30080/6 [10.244.0.9:8080] true false} {[::1]:30080/6 [[fd00:10:244::9]:8080] true false}" +
		" {10.96.1.1:80/6 [10.244.0.9:8080] false false} {[fd00:10:96::11]:80/6 [[fd00:10:244::9]:8080] false false}" +
		" {[2001:db8::5]:80/6 [[fd00:10:244::9]:8080] false false}" +
		" {192.0.2.7:30080/6 [10.244.0.9:8080] false false} {[2001:db8::1]:30080/6 [[fd00:10:244::9]:8080] false false}]"
	if got := fmt.Sprint(Table("one", machine, []*corev1.Service{s}, slices)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	s.Spec.ClusterIPs, s.Spec.IPFamilies, s.Spec.ExternalIPs = s.Spec.ClusterIPs[1:], s.Spec.IPFamilies[1:], nil
	want = "[{[::1]:30080/6 [[fd00:10:244::9]:8080] true false} {[fd00:10:96::11]:80/6 [[fd00:10:244::9]:8080] false false}" +
		" {[2001:db8::1]:30080/6 [[fd00:10:244::9]:8080] false false}]"
	if got := fmt.Sprint(Table("one", machine, []*corev1.Service{s}, slices)); got != want {
		t.Errorf("of IPv6 alone:\n got %s\nwant %s", got, want)
	}
}

// TestNodePorts: they are at the machine's own address for who is on it, and at the others for pods, for each
// protocol, and there with all endpoints, whatever the policies are.
func TestNodePorts(t *testing.T) {
	t.Parallel()
	machine, err := MachineOf([]string{"192.0.2.7", "fe80::1", "10.96.0.1", "10.244.0.1", "169.254.1.1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	s := service(func(s *corev1.Service) {
		s.Spec.Ports[0].NodePort, s.Spec.SessionAffinity = 30080, corev1.ServiceAffinityClientIP
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, NodePort: 30053},
			corev1.ServicePort{Name: "s", Protocol: corev1.ProtocolSCTP, Port: 9, NodePort: 30009})
		s.Spec.ExternalTrafficPolicy, s.Spec.InternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal, ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	})
	packets := slice(ready)
	packets.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("dns"), Port: ptr.To[int32](5353), Protocol: ptr.To(corev1.ProtocolUDP)}}
	const want = "[{127.0.0.1:30080/6 [10.244.0.9:8080] true true} {127.0.0.1:30053/17 [10.244.0.9:5353] true true}" +
		" {10.96.1.1:80/6 [10.244.0.9:8080] false true} {10.96.1.1:53/17 [10.244.0.9:5353] false true}" +
		" {192.0.2.7:30080/6 [10.244.0.8:8080 10.244.0.9:8080] false true} {192.0.2.7:30053/17 [10.244.0.9:5353] false true}]"
	if got := fmt.Sprint(Table("one", machine, []*corev1.Service{s}, []*discoveryv1.EndpointSlice{slice(ready, ready), packets})); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestHostPorts(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}, {ContainerPort: 81}}},
		{Ports: []corev1.ContainerPort{
			{ContainerPort: 53, HostPort: 53, HostIP: "127.0.0.1", Protocol: corev1.ProtocolUDP},
			{ContainerPort: 9, HostPort: 9, Protocol: corev1.ProtocolSCTP}, {ContainerPort: 9, HostPort: 9, HostIP: "::1"},
		}},
	}}}
	want := "[{0.0.0.0:8080/6 [10.244.0.9:80] true false} {127.0.0.1:53/17 [10.244.0.9:53] true false}]"
	if got := fmt.Sprint(HostPorts(pod, netip.MustParseAddr("10.244.0.9"))); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	want = "[{[::]:8080/6 [[fd00:10:244::9]:80] true false} {[::1]:9/6 [[fd00:10:244::9]:9] true false}]"
	if got := fmt.Sprint(HostPorts(pod, netip.MustParseAddr("fd00:10:244::9"))); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestBound has one Service ask for more than a supervisor can be told, and one for so many ports that there
// is no room for anybody's: others have all that they ask for.
func TestBound(t *testing.T) {
	t.Parallel()
	crowd := slice(ready)
	crowd.Namespace, crowd.Labels[discoveryv1.LabelServiceName] = "bad", "bad"
	for i := range 5000 {
		crowd.Endpoints = append(crowd.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", 1+i/250, i%250)}})
	}
	for _, count := range []int{1, 1000, 100000} {
		bad := service(func(s *corev1.Service) {
			s.Namespace, s.Name, s.Spec.ClusterIPs = "bad", "bad", []string{"10.96.2.2"}
			s.Spec.Ports = nil
			for i := range count {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Protocol: corev1.ProtocolTCP, Port: int32(i + 1)})
			}
			if count > 1000 {
				s.Name = "nobody's"
			}
		})
		table := Table("one", local, []*corev1.Service{bad, service(nil)}, []*discoveryv1.EndpointSlice{slice(ready, ready), crowd})
		last := table[len(table)-1]
		if last.At.Address != netip.MustParseAddr("10.96.1.1") || len(last.Endpoints) != 2 {
			t.Errorf("%d ports: another Service has %v", count, last)
		}
		for _, s := range table {
			if len(s.Endpoints) > maxEndpoints || count <= 1000 && len(s.Endpoints) == 0 {
				t.Errorf("%d ports: one has %d endpoints", count, len(s.Endpoints))
			}
		}
		if text, err := json.Marshal(table); err != nil || len(text) > 16<<20 {
			t.Errorf("%d ports: the table has %d bytes, %v", count, len(text), err)
		}
	}
}
