package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// silent has a pod connect to an address and get no answer at all.
func silent(tb testing.TB, n *Network, uid, address string) {
	tb.Helper()
	ns, err := n.Namespace(uid)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 200*time.Millisecond)
	defer cancel()
	conn, err := n.dial(ctx, ns, netip.MustParseAddrPort(address))
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		tb.Errorf("%s connects to %s: %v", uid, address, err)
	}
}

func setPolicies(tb testing.TB, n *Network, p Policies) {
	tb.Helper()
	if err := n.SetPolicies(&p); err != nil {
		tb.Fatal(err)
	}
}

// TestIngress: who may reach a pod, from its node and from others, directly and by a Service.
func TestIngress(t *testing.T) {
	t.Parallel()
	all := nodes(t, "10.244.0.0/24", "10.244.1.0/24")
	one, two := all[0], all[1]
	server, friend, stranger := joined(t, one, "server"), joined(t, one, "friend"), joined(t, one, "stranger")
	far := joined(t, two, "far")
	for _, port := range []string{":80", ":81", ":90"} {
		serve(t, one, "server", port, "server"+port)
	}
	at := func(port int) string { return fmt.Sprintf("%s:%d", server, port) }
	web := Port{netip.MustParseAddr("10.96.1.1"), 80, TCP}
	for _, n := range all {
		if err := n.SetServices([]Service{{At: web, Endpoints: []netip.AddrPort{netip.MustParseAddrPort(at(80))}}}); err != nil {
			t.Fatal(err)
		}
	}
	before, err := dialed(t, one, "stranger", at(81))
	if err != nil {
		t.Fatal(err)
	}
	before.Close()

	rules := []Rule{{Ingress: true, Group: "friends", Protocol: TCP, First: 80, Last: 81}}
	p := Policies{
		Ingress: map[netip.Addr]string{server: "list"}, Lists: map[string][]Rule{"list": rules},
		Groups: map[string][]netip.Addr{"friends": {friend}}, Hosts: []netip.Addr{one.gateway, two.gateway},
	}
	setPolicies(t, one, p)
	expect(t, one, "friend", at(80), "server:80")
	expect(t, one, "friend", at(81), "server:81")
	expect(t, one, "friend", "10.96.1.1:80", "server:80")
	expect(t, one, "server", "10.96.1.1:80", "server:80") // itself
	silent(t, one, "friend", at(90))
	silent(t, one, "stranger", at(80))
	silent(t, one, "stranger", "10.96.1.1:80")
	silent(t, two, "far", at(80))
	silent(t, two, "far", "10.96.1.1:80")
	for _, n := range all { // the machine, wherever it comes from
		conn, err := n.Dial(t.Context(), netip.MustParseAddrPort(at(90)))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	for _, ip := range []netip.Addr{friend, far} { // what is reached is another matter
		if _, ok := p.Ingress[ip]; ok {
			t.Errorf("%s is closed", ip)
		}
	}

	// A group changes, and then the rules.
	p.Groups = map[string][]netip.Addr{"friends": {stranger, far}}
	setPolicies(t, one, p)
	silent(t, one, "friend", at(80))
	expect(t, one, "stranger", at(80), "server:80")
	expect(t, two, "far", "10.96.1.1:80", "server:80 to "+far.String())
	p.Lists = map[string][]Rule{"list": {{Ingress: true, Block: netip.MustParsePrefix("10.244.0.0/23"), Except: []netip.Prefix{netip.PrefixFrom(stranger, 32)}}}}
	p.Groups = nil
	setPolicies(t, one, p)
	expect(t, one, "friend", at(90), "server:90")
	expect(t, two, "far", at(90), "server:90")
	silent(t, one, "stranger", at(90))
	setPolicies(t, one, Policies{})
	expect(t, one, "stranger", at(90), "server:90")

	for _, wrong := range []Policies{
		{Lists: map[string][]Rule{"list": {{Group: "nobody"}}}}, {Egress: map[netip.Addr]string{server: "nothing"}},
	} {
		if err := one.SetPolicies(&wrong); err == nil {
			t.Errorf("%+v is fine", wrong)
		}
	}
}

// dialed connects a pod to an address.
func dialed(tb testing.TB, n *Network, uid, address string) (net.Conn, error) {
	tb.Helper()
	ns, err := n.Namespace(uid)
	if err != nil {
		tb.Fatal(err)
	}
	return n.dial(tb.Context(), ns, netip.MustParseAddrPort(address))
}

// TestEgress: what a pod may reach, of pods, Services, names and the outside.
func TestEgress(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	client, server := joined(t, n, "client"), joined(t, n, "server")
	joined(t, n, "other")
	serve(t, n, "server", ":80", "server")
	listener, err := net.Listen("tcp4", netip.AddrPortFrom(ownAddress(t), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go echo(listener)
	outside := listener.Addr().(*net.TCPAddr).AddrPort()
	web, mixed, api := Port{netip.MustParseAddr("10.96.1.1"), 80, TCP}, Port{netip.MustParseAddr("10.96.1.2"), 80, TCP}, Port{netip.MustParseAddr("10.96.0.1"), 443, TCP}
	err = n.SetServices([]Service{
		{At: web, Endpoints: []netip.AddrPort{netip.AddrPortFrom(server, 80)}},
		{At: mixed, Endpoints: []netip.AddrPort{netip.AddrPortFrom(server, 80), outside}},
		{At: api, Endpoints: []netip.AddrPort{outside}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// An endpoint that is no pod is reached by this process, the others are as always.
	for seen := map[string]bool{}; len(seen) < 2; {
		answer, err := ask(t, n, "client", "10.96.1.2:80")
		if err != nil {
			t.Fatal(err)
		}
		seen[answer] = true
		if answer != "echo" && answer != "server to "+client.String() {
			t.Fatalf("got %q", answer)
		}
	}
	only := func(rules ...Rule) {
		t.Helper()
		setPolicies(t, n, Policies{Egress: map[netip.Addr]string{client: "list"}, Lists: map[string][]Rule{"list": rules}, Groups: map[string][]netip.Addr{"server": {server}}})
	}
	only()
	for _, address := range []string{"10.96.1.1:80", netip.AddrPortFrom(server, 80).String(), outside.String()} {
		silent(t, n, "client", address)
		if answer, err := ask(t, n, "other", address); err != nil {
			t.Errorf("%s: %q, %v", address, answer, err)
		}
	}
	silent(t, n, "client", "10.96.0.10:53")
	expect(t, n, "client", "10.96.0.1:443", "connection reset") // it is this process that finds out
	only(Rule{Group: "server", Protocol: TCP, First: 80, Last: 80})
	expect(t, n, "client", "10.96.1.1:80", "server")
	silent(t, n, "client", outside.String())
	only(Rule{Block: netip.PrefixFrom(outside.Addr(), 32), Protocol: TCP, First: outside.Port(), Last: outside.Port()})
	expect(t, n, "client", outside.String(), "echo")
	expect(t, n, "client", "10.96.0.1:443", "echo")
	silent(t, n, "client", "10.96.1.1:80")
	only(Rule{Protocol: TCP, First: 53, Last: 53})
	if conn, err := dialed(t, n, "client", "10.96.0.10:53"); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	silent(t, n, "client", "10.96.1.1:80")
}

// heard returns what comes to a port of a pod, one packet after the other.
func heard(tb testing.TB, n *Network, uid string, port int) <-chan string {
	tb.Helper()
	return heardBy(tb, n, uid, "udp4", port)
}

func heardBy(tb testing.TB, n *Network, uid, protocol string, port int) <-chan string {
	tb.Helper()
	var conn net.PacketConn
	inside(tb, n, uid, func() {
		var err error
		if conn, err = net.ListenPacket(protocol, fmt.Sprint(":", port)); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() { conn.Close() })
	packets := make(chan string, 100)
	go func() {
		b := make([]byte, 100)
		for {
			k, from, err := conn.ReadFrom(b)
			if err != nil {
				close(packets)
				return
			}
			packets <- fmt.Sprintf("%s from %s", b[:k], from.(*net.UDPAddr).IP)
		}
	}()
	return packets
}

// frame is a packet as a pod sends it that has the right to say all of it.
func frame(source, target [6]byte, from, to netip.Addr, port uint16, text string) []byte {
	b := append(append([]byte{}, target[:]...), source[:]...)
	b = append(b, 0x08, 0x00)
	ip := []byte{0x45, 0, 0, byte(28 + len(text)), 0, 0, 0, 0, 64, byte(UDP), 0, 0}
	ip = append(append(ip, from.AsSlice()...), to.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	udp := binary.BigEndian.AppendUint16(nil, 4000)
	udp = binary.BigEndian.AppendUint16(udp, port)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(text)))
	udp = append(udp, 0, 0) // no checksum
	return append(append(append(b, ip...), udp...), text...)
}

// TestRaw: a pod that writes its packets itself gets past no policy, and speaks for nobody
// elsewhere.
func TestRaw(t *testing.T) {
	t.Parallel()
	all := nodes(t, "10.244.0.0/24", "10.244.1.0/24")
	n := all[0]
	server, client := joined(t, n, "server"), joined(t, n, "client")
	far := joined(t, all[1], "far")
	packets := heard(t, n, "server", 9)
	serverMAC, gatewayMAC := [6]byte(macOf(macPod, server)), [6]byte(macOf(macGateway, n.config.Pods.Addr()))
	clientMAC := [6]byte(macOf(macPod, client))
	send := func(frame []byte) {
		t.Helper()
		inside(t, n, "client", func() {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: 2}); err != nil {
				t.Error(err)
			}
		})
	}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-packets:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("nothing comes, instead of %q", want)
		}
	}
	send(frame(clientMAC, gatewayMAC, client, server, 9, "by the gateway"))
	next("by the gateway from " + client.String())
	send(frame(clientMAC, serverMAC, client, server, 9, "past it"))
	send(frame(clientMAC, gatewayMAC, far, server, 9, "as one elsewhere"))
	send(frame(clientMAC, gatewayMAC, n.gateway, server, 9, "as the machine"))
	send(frame(clientMAC, gatewayMAC, all[1].gateway, server, 9, "as the machine elsewhere"))
	send(frame(clientMAC, gatewayMAC, client, server, 9, "the last"))
	next("the last from " + client.String())
	setPolicies(t, n, Policies{Ingress: map[netip.Addr]string{server: "closed"}, Lists: map[string][]Rule{"closed": {}}})
	for port := range uint16(3) { // other flows than before
		text := frame(clientMAC, gatewayMAC, client, server, 9, "closed")
		binary.BigEndian.PutUint16(text[34:], 5000+port)
		send(text)
	}
	setPolicies(t, n, Policies{})
	send(frame(clientMAC, gatewayMAC, client, server, 9, "open"))
	next("open from " + client.String())

	// One that may not reach everything speaks for no neighbour either, nor for nobody.
	neighbour := joined(t, n, "neighbour")
	setPolicies(t, n, Policies{Egress: map[netip.Addr]string{client: "closed"}, Lists: map[string][]Rule{"closed": {}}})
	for _, ip := range []netip.Addr{client, neighbour, nth(n.config.Pods, 250)} {
		text := frame(clientMAC, gatewayMAC, ip, server, 9, "in another's name")
		binary.BigEndian.PutUint16(text[34:], 6000)
		send(text)
	}
	setPolicies(t, n, Policies{})
	send(frame(clientMAC, gatewayMAC, client, server, 9, "itself"))
	next("itself from " + client.String())
	// What it had is not another's.
	n.Leave("client")
	if err := n.Change("neighbour"); err != nil {
		t.Fatal(err)
	}
	serve(t, n, "neighbour", ":80", "neighbour")
	expect(t, n, "server", netip.AddrPortFrom(neighbour, 80).String(), "neighbour")
	expect(t, all[1], "far", netip.AddrPortFrom(neighbour, 80).String(), "neighbour to "+far.String())
	n.Leave("neighbour")
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.pool.free {
		if s.address == client || s.address == neighbour {
			t.Errorf("%s is given again at once", s.address)
		}
	}
}

// TestManyPolicies: as many as there can be fit into what the kernel takes at once.
func TestManyPolicies(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	ip := joined(t, n, "pod")
	p := Policies{Ingress: map[netip.Addr]string{}, Lists: map[string][]Rule{}, Groups: map[string][]netip.Addr{}}
	for i := range 200 {
		name := fmt.Sprint("g", i)
		for k := range 100 {
			p.Groups[name] = append(p.Groups[name], nth(n.config.Pods, 3*i+k))
		}
		p.Lists[name] = []Rule{{Ingress: true, Group: name, Protocol: TCP, First: 1, Last: 2}}
		p.Ingress[nth(n.config.Pods, i)] = name
	}
	for i := range 10000 {
		p.Groups["g0"] = append(p.Groups["g0"], nth(n.config.Pods, i))
	}
	setPolicies(t, n, p)
	setPolicies(t, n, Policies{})
	serve(t, n, "pod", ":80", "pod")
	expect(t, n, "pod", netip.AddrPortFrom(ip, 80).String(), "pod")
	var lists []Rule
	for range maxRules + 1 {
		lists = append(lists, Rule{})
	}
	if err := n.SetPolicies(&Policies{Lists: map[string][]Rule{"list": lists}}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("any number of rules: %v", err)
	}
}
