package network

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// newDual returns a network with both families.
func newDual(tb testing.TB) *Network {
	tb.Helper()
	return dual(tb, "10.244.0.0/16")[0]
}

// dual are networks of one machine that have both families; each is connected to the one before.
func dual(tb testing.TB, ranges ...string) []*Network {
	tb.Helper()
	if !HasIPv6() {
		tb.Skip("this machine has no IPv6")
	}
	return nodesOf(tb, func(c *Config) { c.IPv6 = true }, ranges...)
}

// joined6 returns the addresses of a pod that has one of each family.
func joined6(tb testing.TB, n *Network, uid string) Addresses {
	tb.Helper()
	at, err := n.Join(uid)
	if err != nil {
		tb.Fatal(err)
	}
	if !at.IPv6.Is6() {
		tb.Fatalf("%s has %v", uid, at)
	}
	return at
}

// serve6 is serve at all of a pod's addresses of IPv6.
func serve6(tb testing.TB, n *Network, uid string, port int, word string) {
	tb.Helper()
	serveBy(tb, n, uid, "tcp6", fmt.Sprintf("[::]:%d", port), word)
}

func at6(ip netip.Addr, port int) string { return netip.AddrPortFrom(ip, uint16(port)).String() }

// TestBeside: the two ranges go together, whatever part of them is a node's.
func TestBeside(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	if got := c.PodRanges(netip.MustParsePrefix("10.244.64.0/18")); len(got) != 1 {
		t.Errorf("without IPv6: %v", got)
	}
	c.IPv6 = true
	if got := fmt.Sprint(c.PodRanges(netip.MustParsePrefix("10.244.64.0/18")), c.ServiceRanges()); got != "[10.244.64.0/18 fd00:10:244::4000/114] [10.96.0.0/16 fd00:10:96::/112]" {
		t.Errorf("got %s", got)
	}
	if got := c.beside(netip.MustParseAddr("10.244.65.7")).String(); got != "fd00:10:244::4107" {
		t.Errorf("got %s", got)
	}
	for ip, want := range map[string]bool{"fd00:10:244::4107": true, "fd00:10:244:ff::1": true, "fd00:10:245::1": false, "10.244.1.1": true, "192.0.2.1": false, "fd00:10:96::1": false} {
		if got := c.IsPod(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
}

// TestPodsByIPv6 has pods of two nodes reach each other by either address, and the node reach them, and each
// see who it is that asks.
func TestPodsByIPv6(t *testing.T) {
	t.Parallel()
	all := dual(t, "10.244.0.0/18", "10.244.64.0/24", "10.244.128.0/18")
	var ips []Addresses
	for i, n := range all {
		ips = append(ips, joined6(t, n, "pod"), joined6(t, n, "neighbour"))
		for k, uid := range []string{"pod", "neighbour"} {
			serve6(t, n, uid, 80, fmt.Sprint("pod", 2*i+k))
			serve(t, n, uid, ":80", fmt.Sprint("pod", 2*i+k))
		}
		expect(t, n, "pod", "[::1]:80", "pod")
		expect(t, n, "pod", at6(ips[2*i].IPv6, 81), "connection refused")
		expect(t, n, "pod", at6(n.gateway6, 80), "connection refused")
	}
	for from, n := range all {
		for to, at := range ips {
			expect(t, n, "pod", at6(at.IPv6, 80), fmt.Sprintf("pod%d to %s", to, ips[2*from].IPv6))
			expect(t, n, "pod", at6(at.IPv4, 80), fmt.Sprintf("pod%d to %s", to, ips[2*from].IPv4))
			conn, err := n.Dial(t.Context(), netip.AddrPortFrom(at.IPv6, 80))
			if err != nil {
				t.Fatalf("node %d to %s: %v", from, at.IPv6, err)
			}
			got, _ := io.ReadAll(conn)
			conn.Close()
			if want := fmt.Sprintf("pod%d to %s", to, n.gateway6); string(got) != want {
				t.Errorf("node %d got %q, want %q", from, got, want)
			}
		}
		for _, nobody := range []string{"[fd00:10:244::c009]:80", "[fd00:10:244:1::1]:80"} {
			if answer, err := ask(t, n, "pod", nobody); err == nil {
				t.Errorf("%s answers %q", nobody, answer)
			}
		}
	}
}

// TestServicesByIPv6 has clients reach the endpoints of a Service by its address of IPv6, and by ports of the machine.
func TestServicesByIPv6(t *testing.T) {
	t.Parallel()
	n := newDual(t)
	a, b, client := joined6(t, n, "a"), joined6(t, n, "b"), joined6(t, n, "client")
	serve6(t, n, "a", 8080, "a")
	serve6(t, n, "b", 8081, "b")
	ends := []netip.AddrPort{netip.AddrPortFrom(a.IPv6, 8080), netip.AddrPortFrom(b.IPv6, 8081)}
	at := Port{netip.MustParseAddr("fd00:10:96::77"), 80, TCP}
	set := func(list ...Service) {
		t.Helper()
		if err := n.SetServices(list); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, n, "client", "[fd00:10:96::77]:80", "connection refused")
	set(Service{At: at, Endpoints: ends})
	heard := make(map[string]int)
	for range 40 {
		answer, err := ask(t, n, "client", "[fd00:10:96::77]:80")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(answer, " to "+client.IPv6.String()) {
			t.Errorf("got %q", answer)
		}
		heard[answer[:1]]++
	}
	if heard["a"] < 5 || heard["b"] < 5 {
		t.Errorf("the client heard %v", heard)
	}
	expect(t, n, "client", "[fd00:10:96::77]:81", "connection refused")
	set(Service{At: at, Endpoints: ends[:1]})
	expect(t, n, "a", "[fd00:10:96::77]:80", "a to "+n.gateway6.String()) // itself
	set(Service{At: at, Endpoints: ends, Sticky: true})
	first, _ := ask(t, n, "client", "[fd00:10:96::77]:80")
	for range 20 {
		expect(t, n, "client", "[fd00:10:96::77]:80", first)
	}
	free, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	door := Port{netip.IPv6Loopback(), free.Addr().(*net.TCPAddr).AddrPort().Port(), TCP}
	set(Service{At: door, Endpoints: ends[:1], Machine: true})
	conn, err := net.Dial("tcp6", free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "a to "+n.gateway6.String() {
		t.Errorf("got %q, %v", got, err)
	}
	set()
	if len(n.rules6.uses) > 0 {
		t.Errorf("endpoints of no Service: %v", n.rules6.uses)
	}
}

// TestPacketsByIPv6 is UDP: to a pod, through a Service, in by a port of the machine, and out.
func TestPacketsByIPv6(t *testing.T) {
	t.Parallel()
	n := newDual(t)
	server := joined6(t, n, "server")
	joined6(t, n, "client")
	var conn net.PacketConn
	inside(t, n, "server", func() {
		var err error
		if conn, err = net.ListenPacket("udp6", "[::]:53"); err != nil {
			t.Error(err)
		}
	})
	defer conn.Close()
	go echoTo(conn)
	own := ownIPv6(t)
	machine, err := net.ListenPacket("udp6", netip.AddrPortFrom(own, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	go echoTo(machine)
	free, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	ends := []netip.AddrPort{netip.AddrPortFrom(server.IPv6, 53)}
	door := free.LocalAddr().(*net.UDPAddr).AddrPort()
	err = n.SetServices([]Service{
		{At: Port{netip.MustParseAddr("fd00:10:96::77"), 53, UDP}, Endpoints: ends},
		{At: Port{door.Addr(), door.Port(), UDP}, Endpoints: ends, Machine: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	try := func(conn net.Conn) {
		t.Helper()
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		for i := range 3 {
			fmt.Fprint(conn, i)
			b := make([]byte, 100)
			k, err := conn.Read(b)
			if err != nil || string(b[:k]) != fmt.Sprint("echo ", i) {
				t.Errorf("%s: got %q, %v", conn.RemoteAddr(), b[:k], err)
				return
			}
		}
	}
	for _, to := range []string{at6(server.IPv6, 53), "[fd00:10:96::77]:53", machine.LocalAddr().String()} {
		var conn net.Conn
		inside(t, n, "client", func() { conn, err = net.Dial("udp6", to) })
		if err != nil {
			t.Fatal(err)
		}
		try(conn)
	}
	conn6, err := net.Dial("udp6", door.String())
	if err != nil {
		t.Fatal(err)
	}
	try(conn6)
}

func echoTo(conn net.PacketConn) {
	b := make([]byte, 100)
	for {
		k, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(append([]byte("echo "), b[:k]...), from)
	}
}

// ownIPv6 is an address of IPv6 of this machine that is not for itself alone.
func ownIPv6(t *testing.T) netip.Addr {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	t.Skip("this machine has no address of IPv6 but its own loopback's")
	return netip.Addr{}
}

// TestOutsideByIPv6 has pods reach what this machine does, but for what it has for itself, however that is written.
func TestOutsideByIPv6(t *testing.T) {
	t.Parallel()
	n := newDual(t)
	joined6(t, n, "client")
	listener, err := net.Listen("tcp6", netip.AddrPortFrom(ownIPv6(t), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go echo(listener)
	expect(t, n, "client", listener.Addr().String(), "echo")
	listener.Close()
	expect(t, n, "client", listener.Addr().String(), "connection reset")
	for _, ip := range []string{"::1", "::ffff:127.0.0.1", "::ffff:10.244.0.2", "fe80::1", "ff02::1", "fd00:10:244::5", "fd00:10:96::5", "::"} {
		if n.outside.reachable(netip.MustParseAddr(ip)) {
			t.Errorf("%s is outside", ip)
		}
	}
	// One that speaks both has one part of what there is.
	at := n.pods["client"]
	_, release, ok := n.outside.take(at.address6)
	if !ok || n.outside.pods[at.address6].first != at.address {
		t.Errorf("got %v, %v", n.outside.pods[at.address6], ok)
	}
	release()
	n.Leave("client")
	if _, _, ok := n.outside.take(at.address6); ok {
		t.Error("who has left is taken out")
	}
}

// TestPoliciesByIPv6: what is said of a pod holds for each of its addresses.
func TestPoliciesByIPv6(t *testing.T) {
	t.Parallel()
	all := dual(t, "10.244.0.0/24", "10.244.1.0/24")
	one, two := all[0], all[1]
	server, friend, stranger := joined6(t, one, "server"), joined6(t, one, "friend"), joined6(t, one, "stranger")
	far := joined6(t, two, "far")
	serve6(t, one, "server", 80, "server")
	serve6(t, one, "server", 90, "server")
	web := Port{netip.MustParseAddr("fd00:10:96::1"), 80, TCP}
	for _, n := range all {
		if err := n.SetServices([]Service{{At: web, Endpoints: []netip.AddrPort{netip.AddrPortFrom(server.IPv6, 80)}}}); err != nil {
			t.Fatal(err)
		}
	}
	p := Policies{
		Ingress: map[netip.Addr]string{server.IPv4: "list", server.IPv6: "list"},
		Lists: map[string][]Rule{"list": {
			{Ingress: true, Group: "friends", Protocol: TCP, First: 80, Last: 80}, {Ingress: true, Block: netip.MustParsePrefix("0.0.0.0/0")},
		}},
		Groups: map[string][]netip.Addr{"friends": {friend.IPv4, friend.IPv6}}, Hosts: []netip.Addr{one.gateway, one.gateway6, two.gateway, two.gateway6},
	}
	setPolicies(t, one, p)
	expect(t, one, "friend", at6(server.IPv6, 80), "server")
	expect(t, one, "friend", "[fd00:10:96::1]:80", "server")
	expect(t, one, "server", "[fd00:10:96::1]:80", "server") // itself
	silent(t, one, "friend", at6(server.IPv6, 90))
	silent(t, one, "stranger", at6(server.IPv6, 80))
	silent(t, one, "stranger", "[fd00:10:96::1]:80")
	silent(t, two, "far", "[fd00:10:96::1]:80")
	for _, n := range all { // the machine, wherever it comes from
		conn, err := n.Dial(t.Context(), netip.AddrPortFrom(server.IPv6, 90))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	p.Lists = map[string][]Rule{"list": {{Ingress: true, Block: netip.MustParsePrefix("fd00:10:244::/119"), Except: []netip.Prefix{netip.PrefixFrom(stranger.IPv6, 128)}}}}
	setPolicies(t, one, p)
	expect(t, one, "friend", at6(server.IPv6, 90), "server")
	expect(t, two, "far", at6(server.IPv6, 90), "server to "+far.IPv6.String())
	silent(t, one, "stranger", at6(server.IPv6, 90))
	silent(t, one, "friend", at6(server.IPv4, 90)) // it is about the other

	// What a pod may send, out and to pods.
	listener, err := net.Listen("tcp6", netip.AddrPortFrom(ownIPv6(t), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go echo(listener)
	outside := listener.Addr().(*net.TCPAddr).AddrPort()
	only := func(rules ...Rule) {
		t.Helper()
		setPolicies(t, one, Policies{Egress: map[netip.Addr]string{friend.IPv4: "list", friend.IPv6: "list"}, Lists: map[string][]Rule{"list": rules}})
	}
	expect(t, one, "friend", outside.String(), "echo")
	only()
	silent(t, one, "friend", outside.String())
	silent(t, one, "friend", at6(server.IPv6, 90))
	silent(t, one, "friend", "[fd00:10:96::1]:80")
	only(Rule{Block: netip.PrefixFrom(outside.Addr(), 128)})
	expect(t, one, "friend", outside.String(), "echo")
	silent(t, one, "friend", at6(server.IPv6, 90))
	setPolicies(t, one, Policies{})
	expect(t, one, "stranger", at6(server.IPv6, 90), "server")
}

// TestOnlyIPv4: what a supervisor is told that knows of no other family.
func TestOnlyIPv4(t *testing.T) {
	t.Parallel()
	four, six := netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("fd00:10:244::2")
	list := []Service{{At: Port{six, 80, TCP}}, {At: Port{four, 80, TCP}}}
	if got := ServicesOfIPv4(list); len(got) != 1 || got[0].At.Address != four || list[0].At.Address != six {
		t.Errorf("got %v of %v", got, list)
	}
	p := Policies{
		Ingress: map[netip.Addr]string{four: "list", six: "list"}, Egress: map[netip.Addr]string{six: "other"}, Hosts: []netip.Addr{six, four},
		Lists: map[string][]Rule{"list": {
			{Group: "both"}, {Group: "none"}, {Block: netip.MustParsePrefix("fd00::/8")}, {Block: netip.MustParsePrefix("10.0.0.0/8")}, {Protocol: TCP},
		}, "other": {{Group: "unused"}}},
		Groups: map[string][]netip.Addr{"both": {four, six}, "none": {six}, "unused": {four}},
	}
	got := p.IPv4()
	want := "map[10.244.0.2:list] map[] [10.244.0.2] map[both:[10.244.0.2] none:[]] 4"
	if said := fmt.Sprint(got.Ingress, got.Egress, got.Hosts, got.Groups, len(got.Lists["list"])); said != want || got.Lists["other"] != nil {
		t.Errorf("got %s\nwant %s", said, want)
	}
	if err := got.check(); err != nil {
		t.Error(err)
	}
}
