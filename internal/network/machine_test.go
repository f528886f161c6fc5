package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// elsewhere calls f in a network namespace that stands for a machine's, which has nothing but this.
func elsewhere(tb testing.TB, f func()) {
	tb.Helper()
	done := make(chan struct{})
	go func() { // the thread ends with it
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			tb.Error(err)
			return
		}
		links, err := openRTNetlink()
		if err != nil {
			tb.Error(err)
			return
		}
		defer links.close()
		links.up(loopback)
		if err := links.do(); err != nil {
			tb.Error(err)
			return
		}
		f()
	}()
	<-done
}

// fetch connects to an address from the namespace of the caller, and returns what is answered.
func fetch(to string) (string, error) {
	conn, err := net.DialTimeout("tcp", to, 3*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// TestMachineByIPv6 is TestMachine for the other family.
func TestMachineByIPv6(t *testing.T) {
	t.Parallel()
	if !HasIPv6() {
		t.Skip("this machine has no IPv6")
	}
	elsewhere(t, func() {
		config := DefaultConfig()
		config.Machine, config.IPv6, config.Pods = true, true, netip.MustParsePrefix("10.244.0.0/24")
		n, err := New(config)
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		hub, err := n.Hub()
		if err != nil {
			t.Error(err)
			return
		}
		defer hub.Close()
		config.Pods, config.Hub = netip.MustParsePrefix("10.244.1.0/24"), hub
		second, err := New(config)
		if err != nil {
			t.Error(err)
			return
		}
		defer second.Close()
		a, b := joined6(t, n, "a"), joined6(t, second, "b")
		serve6(t, n, "a", 80, "a")
		serve6(t, second, "b", 80, "b")
		web := Port{netip.MustParseAddr("fd00:10:96::77"), 80, TCP}
		for _, node := range []*Network{n, second} {
			if err := node.SetServices([]Service{{At: web, Endpoints: []netip.AddrPort{netip.AddrPortFrom(b.IPv6, 80)}}}); err != nil {
				t.Error(err)
			}
		}
		if err := n.SetPolicies(&Policies{Lists: map[string][]Rule{"none": nil}, Ingress: map[netip.Addr]string{a.IPv6: "none"}, Hosts: []netip.Addr{n.gateway6, second.gateway6}}); err != nil {
			t.Error(err)
		}
		for to, want := range map[string]string{
			at6(a.IPv6, 80): "a to " + n.gateway6.String(), at6(b.IPv6, 80): "b to " + second.gateway6.String(), "[fd00:10:96::77]:80": "b to " + n.gateway6.String(),
		} {
			if got, err := fetch(to); got != want || err != nil {
				t.Errorf("%s answers %q, %v; want %q", to, got, err, want)
			}
		}
	})
}

// TestMachine: the machine reaches pods and Services by their addresses, of all its nodes, whatever the
// policies are; pods see the gateway. Without being asked to it does not.
func TestMachine(t *testing.T) {
	t.Parallel()
	elsewhere(t, func() {
		config := DefaultConfig()
		config.Machine, config.Pods = true, netip.MustParsePrefix("10.244.0.0/24")
		n, err := New(config)
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		hub, err := n.Hub()
		if err != nil {
			t.Error(err)
			return
		}
		defer hub.Close()
		config.Pods, config.Hub = netip.MustParsePrefix("10.244.1.0/24"), hub
		second, err := New(config)
		if err != nil {
			t.Error(err)
			return
		}
		a, b := joined(t, n, "a"), joined(t, second, "b")
		serve(t, n, "a", ":80", "a")
		serve(t, second, "b", ":80", "b")
		echoPackets(t, n, "a", ":53", "dns")
		web := Port{netip.MustParseAddr("10.96.7.7"), 80, TCP}
		for _, node := range []*Network{n, second} {
			if err := node.SetServices([]Service{
				{At: web, Endpoints: []netip.AddrPort{netip.AddrPortFrom(b, 80)}},
				{At: Port{netip.MustParseAddr("10.96.7.8"), 53, UDP}, Endpoints: []netip.AddrPort{netip.AddrPortFrom(a, 53)}},
				{At: Port{netip.MustParseAddr("10.96.7.9"), 80, TCP}},
			}); err != nil {
				t.Error(err)
			}
		}
		// Nobody but nodes may come to a.
		if err := n.SetPolicies(&Policies{Lists: map[string][]Rule{"none": nil}, Ingress: map[netip.Addr]string{a: "none"}, Hosts: []netip.Addr{n.gateway, second.gateway}}); err != nil {
			t.Error(err)
		}
		want := func(to, want string) {
			t.Helper()
			if got, err := fetch(to); got != want || err != nil {
				t.Errorf("%s answers %q, %v; want %q", to, got, err, want)
			}
		}
		want(fmt.Sprint(a, ":80"), "a to "+n.gateway.String())
		want(fmt.Sprint(b, ":80"), "b to "+second.gateway.String())
		want("10.96.7.7:80", "b to "+n.gateway.String())
		if got, err := fetch("10.96.7.9:80"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a Service of nobody: got %q, %v", got, err)
		}
		var packets net.Conn
		if packets, err = net.Dial("udp4", "10.96.7.8:53"); err != nil {
			t.Error(err)
			return
		}
		defer packets.Close()
		if got, err := say(packets, "hello"); got != "dns: hello" {
			t.Errorf("got %q, %v", got, err)
		}
		// Of two nodes the other leads to Services when one is gone.
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		if err := n.SetServices([]Service{{At: web, Endpoints: []netip.AddrPort{netip.AddrPortFrom(a, 80)}}}); err != nil {
			t.Error(err)
		}
		want("10.96.7.7:80", "a to "+n.gateway.String())
	})
	elsewhere(t, func() {
		n, err := New(DefaultConfig())
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 {
			t.Errorf("the machine has %v, %v", links, err)
		}
	})
}

// Of two engines with the same addresses one can lead the machine to its pods. The other has its pods all
// the same, and says why.
func TestMachineOfAnother(t *testing.T) {
	t.Parallel()
	elsewhere(t, func() {
		config := DefaultConfig()
		config.Machine, config.Pods = true, netip.MustParsePrefix("10.244.0.0/24")
		first, err := New(config)
		if err != nil {
			t.Error(err)
			return
		}
		defer first.Close()
		second, err := New(config)
		if err != nil {
			t.Error(err)
			return
		}
		defer second.Close()
		joined(t, second, "a")
		if first.Unreached() != "" || !strings.HasPrefix(second.Unreached(), "another engine of this machine has the same addresses") {
			t.Errorf("the first says %q, the second %q", first.Unreached(), second.Unreached())
		}
	})
}
