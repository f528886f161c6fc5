package dns

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// TestOneClientIsNotAll has one client ask for more slow names than are asked for at once, and hold more
// connections than there may be: another is answered, by both.
func TestOneClientIsNotAll(t *testing.T) {
	t.Parallel()
	upstream, _ := other(t, func(m *dnsmessage.Message) {
		if strings.HasPrefix(m.Questions[0].Name.String(), "slow") {
			m.Response = false // as good as none
			return
		}
		oneAddress(m)
	})
	at := askingOf(t, upstream)
	greedy := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := greedy.DialContext(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 * maxAtOnce {
		_, _ = conn.Write(pack(t, "slow.example.com", "A", 0))
		time.Sleep(50 * time.Microsecond) // so that the kernel loses none
	}
	greedy.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	for range maxClients {
		conn, err := greedy.DialContext(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for _, network := range []string{"tcp", "udp"} {
		if got := send(t, network, at, pack(t, "example.com", "A", 0)); got != "Success 192.0.2.7" {
			t.Errorf("%s: %s", network, got)
		}
	}
}

// crowd is a headless Service with one slice.
func crowd(ports, endpoints int) Cluster {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: "many-x", Labels: map[string]string{discoveryv1.LabelServiceName: "many"}}}
	for i := range ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{
			Name: ptr.To(fmt.Sprint("p", i)), Port: ptr.To(int32(1 + i)), Protocol: ptr.To(corev1.ProtocolTCP)})
	}
	for i := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 200+i>>16, i>>8&255, i&255)}})
	}
	return Cluster{Namespaces: []string{"ns"}, Endpoints: []*discoveryv1.EndpointSlice{slice}, Services: []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "many"}, Spec: corev1.ServiceSpec{ClusterIP: "None"}}}}
}

// TestCrowd has a Service with as many ports and endpoints as a slice may have, in two slices of which
// the second says the same again: what is kept of it is their sum and not their product, and what is
// answered is what fits.
func TestCrowd(t *testing.T) {
	t.Parallel()
	c := crowd(20000, 1000)
	c.Endpoints = append(c.Endpoints, c.Endpoints[0])
	started := time.Now()
	z := NewZone(c)
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, test := range []struct {
		name, typ   string
		size, least int
		cut         bool
	}{
		{"_p7._tcp.many", "SRV", maxMessage, 1000, false},
		{"_p19999._tcp.many", "SRV", minSize, 1, true},
		{"many", "A", maxMessage, 1000, false},
		{"many", "A", maxSize, 30, true},
	} {
		q, _ := parse(pack(t, test.name+".ns.svc.cluster.local", test.typ, 0))
		var m dnsmessage.Message
		packed := z.answer(&q, test.size)
		if err := m.Unpack(packed); err != nil || len(packed) > test.size || m.Truncated != test.cut || len(m.Answers) < test.least || len(m.Answers) > 1000 {
			t.Errorf("%s: %d answers in %d bytes, cut: %v, %v", test.name, len(m.Answers), len(packed), m.Truncated, err)
		}
	}
}

// TestMoreThanFit has a name with more addresses than any answer holds.
func TestMoreThanFit(t *testing.T) {
	t.Parallel()
	c := crowd(1, 0)
	for i := range 20 {
		more := crowd(1, 20000).Endpoints[0]
		more.Endpoints = more.Endpoints[1000*i : 1000*i+1000]
		c.Endpoints = append(c.Endpoints, more)
	}
	z := NewZone(c)
	for typ, want := range map[string]int{"A": maxRecords, "SRV": 1000} {
		name := map[string]string{"A": "many", "SRV": "_p0._tcp.many"}[typ]
		q, _ := parse(pack(t, name+".ns.svc.cluster.local", typ, 0))
		var m dnsmessage.Message
		packed := z.answer(&q, maxMessage)
		if err := m.Unpack(packed); err != nil || len(m.Answers) != want || m.Truncated != (typ == "SRV") {
			t.Errorf("%s: %d answers in %d bytes, cut: %v, %v", typ, len(m.Answers), len(packed), m.Truncated, err)
		}
	}
	if got := len(z.find("many.ns.svc." + Domain).addresses); got != maxRecords {
		t.Errorf("%d addresses are kept", got)
	}
}

func BenchmarkCrowd(b *testing.B) {
	c := crowd(1, 1000)
	b.Run("zone", func(b *testing.B) {
		for b.Loop() {
			NewZone(c)
		}
	})
	z := NewZone(c)
	q, _ := parse(pack(b, "_p0._tcp.many.ns.svc.cluster.local", "SRV", 1232))
	b.Run("answer", func(b *testing.B) {
		for b.Loop() {
			z.answer(&q, q.size)
		}
	})
}
