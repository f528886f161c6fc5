package network

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// echoPackets has a pod answer each packet to a port with a word and what it was.
func echoPackets(tb testing.TB, n *Network, uid, address, word string) {
	tb.Helper()
	var conn net.PacketConn
	inside(tb, n, uid, func() {
		var err error
		if conn, err = net.ListenPacket("udp4", address); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			k, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(fmt.Appendf(nil, "%s: %s", word, b[:k]), from)
		}
	}()
}

// say sends a packet and returns the answer. The first ones may be lost, as packets may be.
func say(conn net.Conn, text string) (string, error) {
	b := make([]byte, 100)
	var k int
	var err error
	for range 10 {
		if _, err = conn.Write([]byte(text)); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if k, err = conn.Read(b); err == nil {
			return string(b[:k]), nil
		}
	}
	return "", err
}

func freePacketPort(tb testing.TB, ip netip.Addr) Port {
	tb.Helper()
	conn, err := net.ListenPacket("udp4", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return Port{at.Addr(), at.Port(), UDP}
}

// TestDoorsOfPackets has UDP ports of the machine lead to pods, as long as they do. Whoever sends is answered
// from where he has sent to, and stays with the endpoint that he has as long as it is one.
func TestDoorsOfPackets(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := joined(t, n, "a"), joined(t, n, "b")
	echoPackets(t, n, "a", ":53", "a")
	echoPackets(t, n, "b", ":53", "b")
	at := freePacketPort(t, netip.MustParseAddr("127.0.0.1"))
	everywhere := at
	everywhere.Address = netip.IPv4Unspecified()
	both := []netip.AddrPort{netip.AddrPortFrom(a, 53), netip.AddrPortFrom(b, 53)}
	if err := n.SetServices([]Service{{At: everywhere, Endpoints: both, Machine: true}}); err != nil {
		t.Fatal(err)
	}
	dial := func(to string) net.Conn {
		conn, err := net.Dial("udp4", to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	// A socket that is connected takes answers from there only.
	seen := make(map[string]bool)
	for i := 0; len(seen) < 2 && i < 64; i++ {
		conn := dial(fmt.Sprintf("127.0.0.%d:%d", 1+i%3, at.Port))
		first, err := say(conn, "hello")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if again, err := say(conn, "hello"); again != first {
				t.Errorf("answered by %q, then by %q, %v", first, again, err)
			}
		}
		seen[first] = true
	}
	if !seen["a: hello"] || !seen["b: hello"] {
		t.Errorf("answers: %v", seen)
	}

	conn := dial(fmt.Sprintf("127.0.0.1:%d", at.Port))
	for _, word := range []string{"a", "b", "a"} {
		only := map[string]netip.Addr{"a": a, "b": b}[word]
		if err := n.SetServices([]Service{{At: everywhere, Endpoints: []netip.AddrPort{netip.AddrPortFrom(only, 53)}, Machine: true}}); err != nil {
			t.Fatal(err)
		}
		if got, err := say(conn, "hi"); got != word+": hi" {
			t.Errorf("led to %s: got %q, %v", word, got, err)
		}
	}
	if err := n.SetServices(nil); err != nil {
		t.Fatal(err)
	}
	if err := n.SetServices([]Service{{At: at, Machine: true}}); err != nil {
		t.Errorf("the port is free again: %v", err)
	}
}

// TestStickyDoors: who always gets the same endpoint of a Service does so by ports of the machine, too.
func TestStickyDoors(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	var ends []netip.AddrPort
	for i := range 4 {
		uid := fmt.Sprint("pod", i)
		ends = append(ends, netip.AddrPortFrom(joined(t, n, uid), 53))
		echoPackets(t, n, uid, ":53", uid)
	}
	at := freePacketPort(t, netip.MustParseAddr("127.0.0.1"))
	if err := n.SetServices([]Service{{At: at, Endpoints: ends, Machine: true, Sticky: true}}); err != nil {
		t.Fatal(err)
	}
	var first string
	for i := range 12 {
		conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", at.Port))
		if err != nil {
			t.Fatal(err)
		}
		got, err := say(conn, "hello")
		conn.Close()
		if i == 0 {
			first = got
		}
		if got != first || err != nil {
			t.Fatalf("answered by %q, then by %q, %v", first, got, err)
		}
	}
}

// TestServicesOutside has pods find Services at addresses of the machine, by both protocols: node ports.
func TestServicesOutside(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	server := joined(t, n, "server")
	joined(t, n, "client")
	serve(t, n, "server", ":80", "web")
	echoPackets(t, n, "server", ":53", "dns")
	machine := ownAddress(t)
	packets := Service{At: Port{machine, 30053, UDP}, Endpoints: []netip.AddrPort{netip.AddrPortFrom(server, 53)}}
	for range 2 { // again after it has gone
		if err := n.SetServices([]Service{{At: Port{machine, 30080, TCP}, Endpoints: []netip.AddrPort{netip.AddrPortFrom(server, 80)}}, packets}); err != nil {
			t.Fatal(err)
		}
		expect(t, n, "client", fmt.Sprint(machine, ":30080"), "web to")
		var conn net.Conn
		inside(t, n, "client", func() {
			var err error
			if conn, err = net.Dial("udp4", fmt.Sprint(machine, ":30053")); err != nil {
				t.Error(err)
			}
		})
		if got, err := say(conn, "hello"); got != "dns: hello" {
			t.Errorf("got %q, %v", got, err)
		}
		conn.Close()
		if err := n.SetServices(nil); err != nil {
			t.Fatal(err)
		}
	}
}
