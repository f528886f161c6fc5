package network

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// packet6 is a packet of IPv6 in a frame, as a pod sends it that has the right to say all of it. next is what
// the body is, and extra a header before it, which says so itself.
func packet6(source, target [6]byte, from, to netip.Addr, next byte, hops byte, extra, body []byte) []byte {
	b := append(append([]byte{}, target[:]...), source[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(extra)+len(body)))
	b = append(b, next, hops)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return append(append(b, extra...), body...)
}

// checked puts the checksum into the body of a packet, at a place of it.
func checked(from, to netip.Addr, protocol byte, body []byte, at int) []byte {
	sum := uint32(len(body)) + uint32(protocol)
	for _, part := range [][]byte{from.AsSlice(), to.AsSlice(), body} {
		for i := range part {
			if i%2 == 0 {
				sum += uint32(part[i]) << 8
			} else {
				sum += uint32(part[i])
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(body[at:], ^uint16(sum))
	return body
}

func datagram(from, to netip.Addr, source, target uint16, text string) []byte {
	b := binary.BigEndian.AppendUint16(nil, source)
	b = binary.BigEndian.AppendUint16(b, target)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	return checked(from, to, byte(UDP), append(append(b, 0, 0), text...), 6)
}

// sendFrame has a pod send a frame.
func sendFrame(tb testing.TB, n *Network, uid string, frame []byte) {
	tb.Helper()
	inside(tb, n, uid, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			tb.Error(err)
			return
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0}); err != nil {
			tb.Error(err)
		}
	})
}

// TestStrangers: a pod that writes its packets itself gets past no policy by IPv6, speaks for nobody else, and
// teaches the node nothing about who is where.
func TestStrangers(t *testing.T) {
	t.Parallel()
	all := dual(t, "10.244.0.0/24", "10.244.1.0/24")
	n := all[0]
	server, client := joined6(t, n, "server"), joined6(t, n, "client")
	far := joined6(t, all[1], "far")
	neighbour := joined6(t, n, "neighbour")
	packets := heardBy(t, n, "server", "udp6", 9)
	serverMAC, gatewayMAC := [6]byte(macOf(macPod, server.IPv4)), [6]byte(macOf(macGateway, n.config.Pods.Addr()))
	clientMAC := [6]byte(macOf(macPod, client.IPv4))
	port := uint16(4000)
	plain := func(target [6]byte, from netip.Addr, text string) {
		t.Helper()
		port++
		sendFrame(t, n, "client", packet6(clientMAC, target, from, server.IPv6, byte(UDP), 64, nil, datagram(from, server.IPv6, port, 9, text)))
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
	plain(gatewayMAC, client.IPv6, "by the gateway")
	next("by the gateway from " + client.IPv6.String())
	plain(serverMAC, client.IPv6, "past it")
	for _, other := range []netip.Addr{
		far.IPv6, n.gateway6, all[1].gateway6, n.config.hubAddress6(), n.config.machineAddress6(), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("::1"), netip.MustParseAddr("fd00:10:96::1"), netip.IPv6Unspecified(), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("::ffff:10.244.0.1"),
	} {
		plain(gatewayMAC, other, "in the name of "+other.String())
	}
	// Packets that say which way they take.
	port++
	body := datagram(client.IPv6, server.IPv6, port, 9, "by a way of its own")
	for kind := range byte(5) {
		header := append([]byte{byte(UDP), 2, kind, 0, 0, 0, 0, 0}, server.IPv6.AsSlice()...)
		sendFrame(t, n, "client", packet6(clientMAC, gatewayMAC, client.IPv6, server.IPv6, unix.IPPROTO_ROUTING, 64, header, body))
		sendFrame(t, n, "client", packet6(clientMAC, gatewayMAC, client.IPv6, n.gateway6, unix.IPPROTO_ROUTING, 64, append([]byte{byte(UDP), 2, kind, 1}, header[4:]...), body))
	}
	plain(gatewayMAC, client.IPv6, "the last")
	next("the last from " + client.IPv6.String())

	// What it says of who has which address and who is a router is heard by nobody.
	stranger := netip.MustParseAddr("fd00:10:244::fe")
	for _, kind := range []byte{133, 134, 135, 136, 137} {
		for _, from := range []netip.Addr{client.IPv6, neighbour.IPv6, netip.MustParseAddr("fe80::1"), stranger} {
			for _, to := range []netip.Addr{n.gateway6, server.IPv6, netip.MustParseAddr("ff02::1")} {
				message := []byte{kind, 0, 0, 0, 0x60, 0, 0, 0}
				if kind > 134 {
					message = append(message, to.AsSlice()...)
				}
				if kind == 137 {
					message = append(message, neighbour.IPv6.AsSlice()...)
				}
				message = append(append(message, 2, 1), clientMAC[:]...)
				message = append(append(message, 1, 1), clientMAC[:]...)
				sendFrame(t, n, "client", packet6(clientMAC, gatewayMAC, from, to, unix.IPPROTO_ICMPV6, 255, nil, checked(from, to, unix.IPPROTO_ICMPV6, message, 2)))
			}
		}
	}
	serve6(t, n, "neighbour", 80, "neighbour")
	expect(t, n, "server", at6(neighbour.IPv6, 80), "neighbour")
	if !knows(t, n, neighbour.IPv6) || knows(t, n, stranger) {
		t.Errorf("the node knows its pods: %v, and who has told it of himself: %v", knows(t, n, neighbour.IPv6), knows(t, n, stranger))
	}

	// Policies hold for what is hidden behind other headers, and for parts.
	setPolicies(t, n, Policies{Ingress: map[netip.Addr]string{server.IPv6: "tcp"}, Lists: map[string][]Rule{"tcp": {{Ingress: true, Protocol: TCP, First: 9, Last: 9}}}})
	port++
	body = datagram(client.IPv6, server.IPv6, port, 9, "hidden from all")
	options := []byte{byte(UDP), 0, 1, 4, 0, 0, 0, 0}
	for _, next := range []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS} {
		sendFrame(t, n, "client", packet6(clientMAC, gatewayMAC, client.IPv6, server.IPv6, next, 64, options, body))
	}
	for _, protocol := range []byte{byte(UDP), byte(TCP)} {
		first, second := []byte{protocol, 0, 0, 1, 0, 0, 0, 7}, []byte{protocol, 0, 0, 16, 0, 0, 0, 7}
		sendFrame(t, n, "client", packet6(clientMAC, gatewayMAC, client.IPv6, server.IPv6, unix.IPPROTO_FRAGMENT, 64, first, body[:16]))
		sendFrame(t, n, "client", packet6(clientMAC, gatewayMAC, client.IPv6, server.IPv6, unix.IPPROTO_FRAGMENT, 64, second, body[16:]))
	}
	plain(gatewayMAC, client.IPv6, "closed")
	setPolicies(t, n, Policies{})
	plain(gatewayMAC, client.IPv6, "open")
	next("open from " + client.IPv6.String())

	// One that may not reach everything speaks for no neighbour either.
	setPolicies(t, n, Policies{Egress: map[netip.Addr]string{client.IPv4: "closed", client.IPv6: "closed"}, Lists: map[string][]Rule{"closed": {}}})
	for _, ip := range []netip.Addr{client.IPv6, neighbour.IPv6, stranger} {
		plain(gatewayMAC, ip, "in another's name")
	}
	setPolicies(t, n, Policies{})
	plain(gatewayMAC, client.IPv6, "itself")
	next("itself from " + client.IPv6.String())
}

// knows tells whether the node has an entry for a neighbour.
func knows(tb testing.TB, n *Network, ip netip.Addr) (known bool) {
	tb.Helper()
	n.thread.do(func() {
		table, err := syscall.NetlinkRIB(unix.RTM_GETNEIGH, unix.AF_INET6)
		if err != nil {
			tb.Error(err)
		}
		known = bytes.Contains(table, ip.AsSlice())
	})
	return known
}
