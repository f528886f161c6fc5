package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func testZone() *Zone {
	svc := func(name string, spec corev1.ServiceSpec) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: spec}
	}
	port := func(name string, p corev1.Protocol, n int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Protocol: p, Port: n}
	}
	endpoint := func(ip, host string, ready *bool) discoveryv1.Endpoint {
		e := discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
		if host != "" {
			e.Hostname = &host
		}
		return e
	}
	return NewZone(Cluster{
		Namespaces: []string{"ns", "bare"}, Server: netip.MustParseAddr("10.96.0.10"),
		Services: []*corev1.Service{
			svc("redis", corev1.ServiceSpec{ClusterIP: "10.96.3.4", ClusterIPs: []string{"10.96.3.4"}, Ports: []corev1.ServicePort{
				port("redis", corev1.ProtocolTCP, 6379), port("stats", corev1.ProtocolUDP, 8125)}}),
			svc("db", corev1.ServiceSpec{ClusterIP: "None"}),
			svc("empty", corev1.ServiceSpec{ClusterIP: "None"}),
			svc("out", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "Example.com"}),
			svc("in", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "redis.ns.svc.cluster.local"}),
			svc("loop", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "loop.ns.svc.cluster.local"}),
		},
		Endpoints: []*discoveryv1.EndpointSlice{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db-x", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
			Ports:      []discoveryv1.EndpointPort{{Name: ptr.To("pg"), Port: ptr.To[int32](5432), Protocol: ptr.To(corev1.ProtocolTCP)}},
			Endpoints: []discoveryv1.Endpoint{
				endpoint("10.244.0.7", "db-0", nil), endpoint("10.244.0.8", "", ptr.To(true)), endpoint("10.244.0.9", "db-2", ptr.To(false)),
			},
		}},
	})
}

// TestAnswers asks a zone. What is expected is the code, then the records, of which those
// behind "+" come unasked.
func TestAnswers(t *testing.T) {
	t.Parallel()
	z := testZone()
	for _, test := range []struct{ name, typ, want string }{
		{"redis.ns.svc.cluster.local", "A", "Success 10.96.3.4"},
		{"REDIS.ns.Svc.cluster.LOCAL", "A", "Success 10.96.3.4"},
		{"redis.ns.svc.cluster.local", "AAAA", "Success"}, // there is the name, but no such address
		{"redis.ns.svc.cluster.local", "MX", "Success"},
		{"redis.other.svc.cluster.local", "A", "NameError"},
		{"redis.cluster.local", "A", "NameError"},
		{"nobody.ns.svc.cluster.local", "A", "NameError"},
		{"ns.svc.cluster.local", "A", "Success"},
		{"svc.cluster.local", "A", "Success"},
		{"cluster.local", "A", "Success"},
		{"cluster.local", "SOA", "Success ns.dns.cluster.local."},
		{"dns-version.cluster.local", "TXT", "Success 1.1.0"},
		{"dns-version.cluster.local", "A", "Success"},
		{"_redis._tcp.redis.ns.svc.cluster.local", "SRV", "Success redis.ns.svc.cluster.local.:6379 + 10.96.3.4"},
		{"_redis._udp.redis.ns.svc.cluster.local", "SRV", "NameError"},
		{"_tcp.redis.ns.svc.cluster.local", "SRV", "Success"},
		{"db.ns.svc.cluster.local", "A", "Success 10.244.0.7 10.244.0.8"},
		{"db-0.db.ns.svc.cluster.local", "A", "Success 10.244.0.7"},
		{"10-244-0-8.db.ns.svc.cluster.local", "A", "Success 10.244.0.8"},
		{"db-2.db.ns.svc.cluster.local", "A", "NameError"},
		{"_pg._tcp.db.ns.svc.cluster.local", "SRV",
			"Success 10-244-0-8.db.ns.svc.cluster.local.:5432 db-0.db.ns.svc.cluster.local.:5432 + 10.244.0.7 10.244.0.8"},
		{"empty.ns.svc.cluster.local", "A", "NameError"},
		{"out.ns.svc.cluster.local", "A", "others"},
		{"out.ns.svc.cluster.local", "CNAME", "Success example.com."},
		{"in.ns.svc.cluster.local", "A", "Success 10.96.3.4 redis.ns.svc.cluster.local."},
		{"loop.ns.svc.cluster.local", "A", "Success loop.ns.svc.cluster.local."},
		{"10-244-0-3.ns.pod.cluster.local", "A", "Success 10.244.0.3"},
		{"fd00--1.ns.pod.cluster.local", "AAAA", "Success fd00::1"},
		{"what.ns.pod.cluster.local", "A", "NameError"},
		{"x.10-244-0-3.ns.pod.cluster.local", "A", "NameError"},
		{"ns.pod.cluster.local", "A", "Success"},
		{"10-244-0-3.bare.pod.cluster.local", "A", "Success 10.244.0.3"},
		{"10-244-0-3.never.pod.cluster.local", "A", "NameError"},
		{"10-244-0-3.x.ns.pod.cluster.local", "A", "NameError"},
		{"10-244-0.ns.pod.cluster.local", "A", "NameError"},
		{"never.pod.cluster.local", "A", "NameError"},
		{"bare.svc.cluster.local", "A", "Success"},
		{"never.svc.cluster.local", "A", "NameError"},
		{"cluster.local", "NS", "Success ns.dns.cluster.local. + 10.96.0.10"},
		{"cluster.local", "ANY", "Success ns.dns.cluster.local."},
		{"svc.cluster.local", "NS", "Success"},
		{"ns.dns.cluster.local", "A", "Success 10.96.0.10"},
		{"dns.cluster.local", "A", "Success"},
		{"4.3.96.10.in-addr.arpa", "PTR", "Success redis.ns.svc.cluster.local."},
		{"7.0.244.10.in-addr.arpa", "PTR", "Success db-0.db.ns.svc.cluster.local."},
		{"8.8.8.8.in-addr.arpa", "PTR", "others"},
		{"example.com", "A", "others"},
		{"notcluster.local", "A", "others"},
		{"", "NS", "others"},
	} {
		if got := ask1(t, z, test.name, test.typ); got != test.want {
			t.Errorf("%s %s:\n got %s\nwant %s", test.typ, test.name, got, test.want)
		}
	}
}

func pack(tb testing.TB, name, typ string, size uint16) []byte {
	tb.Helper()
	types := map[string]dnsmessage.Type{
		"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "SRV": dnsmessage.TypeSRV, "PTR": dnsmessage.TypePTR, "TXT": dnsmessage.TypeTXT,
		"CNAME": dnsmessage.TypeCNAME, "SOA": dnsmessage.TypeSOA, "MX": dnsmessage.TypeMX, "NS": dnsmessage.TypeNS, "ANY": dnsmessage.TypeALL,
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 77, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: types[typ], Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		o := option()
		o.Header.Class = dnsmessage.Class(size)
		m.Additionals = []dnsmessage.Resource{o}
	}
	packed, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return packed
}

func ask1(t *testing.T, z *Zone, name, typ string) string {
	t.Helper()
	q, ok := parse(pack(t, name, typ, 0))
	if !ok {
		t.Fatalf("%s %s is no question", typ, name)
	}
	packed := z.answer(&q, maxMessage)
	if packed == nil {
		return "others"
	}
	return show(t, packed)
}

// show is what an answer says.
func show(t *testing.T, packed []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		t.Fatal(err)
	}
	if !m.Response || m.ID != 77 {
		t.Errorf("%+v", m.Header)
	}
	if len(m.Answers) == 0 && len(m.Authorities) == 0 && m.RCode != dnsmessage.RCodeServerFailure {
		t.Error("nobody says for how long there is no answer")
	}
	words := append([]string{strings.TrimPrefix(m.RCode.String(), "RCode")}, bodies(m.Answers)...)
	if extra := bodies(m.Additionals); len(extra) > 0 {
		words = append(append(words, "+"), extra...)
	}
	return strings.Join(words, " ")
}

func bodies(list []dnsmessage.Resource) (words []string) {
	for _, r := range list {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.CNAMEResource:
			words = append(words, b.CNAME.String())
		case *dnsmessage.PTRResource:
			words = append(words, b.PTR.String())
		case *dnsmessage.TXTResource:
			words = append(words, b.TXT...)
		case *dnsmessage.SRVResource:
			words = append(words, fmt.Sprint(b.Target, ":", b.Port))
		case *dnsmessage.NSResource:
			words = append(words, b.NS.String())
		case *dnsmessage.SOAResource:
			words = append(words, b.NS.String())
		}
	}
	slices.Sort(words)
	return words
}

// TestTruncated has an answer that does not fit cut, and the client told.
func TestTruncated(t *testing.T) {
	t.Parallel()
	var slice discoveryv1.EndpointSlice
	slice.Namespace, slice.Labels = "ns", map[string]string{discoveryv1.LabelServiceName: "many"}
	for i := range 200 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.1.%d", i)}})
	}
	z := NewZone(Cluster{Services: []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "many"}, Spec: corev1.ServiceSpec{ClusterIP: "None"}}}, Endpoints: []*discoveryv1.EndpointSlice{&slice}})
	for asked, most := range map[uint16]int{0: minSize, 1000: 1000, 60000: maxSize, 10: minSize} {
		q, _ := parse(pack(t, "many.ns.svc.cluster.local", "A", asked))
		var m dnsmessage.Message
		packed := z.answer(&q, q.size)
		if err := m.Unpack(packed); err != nil || len(packed) > most || !m.Truncated || len(m.Answers) == 0 {
			t.Errorf("who takes %d bytes: %d bytes, %d answers, cut: %v, %v", asked, len(packed), len(m.Answers), m.Truncated, err)
		}
		if edns := len(m.Additionals) == 1; edns != (asked > 0) {
			t.Errorf("who takes %d bytes gets %v", asked, m.Additionals)
		}
	}
	q, _ := parse(pack(t, "many.ns.svc.cluster.local", "A", 0))
	var m dnsmessage.Message
	if err := m.Unpack(z.answer(&q, maxMessage)); err != nil || m.Truncated || len(m.Answers) != 200 {
		t.Errorf("by TCP: %d answers, %v", len(m.Answers), err)
	}
}

func FuzzAnswer(f *testing.F) {
	z := testZone()
	for _, name := range []string{"redis.ns.svc.cluster.local", "4.3.96.10.in-addr.arpa", "example.com", "fd00--1.ns.pod.cluster.local"} {
		for _, typ := range []string{"A", "SRV", "PTR"} {
			f.Add(pack(f, name, typ, 1232))
		}
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		q, ok := parse(message)
		if !ok {
			return
		}
		answer := z.answer(&q, q.size)
		if answer == nil {
			answer = q.fail(dnsmessage.RCodeServerFailure)
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || len(answer) > q.size {
			t.Errorf("%d bytes of %d: %v", len(answer), q.size, err)
		}
	})
}
