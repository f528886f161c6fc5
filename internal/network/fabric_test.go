package network

import (
	"fmt"
	"net/netip"
	"testing"
)

// nodes are several networks of one machine; each is connected to the one before.
func nodes(tb testing.TB, ranges ...string) []*Network {
	tb.Helper()
	return nodesOf(tb, func(*Config) {}, ranges...)
}

// nodesOf is nodes with something else in the configuration of each.
func nodesOf(tb testing.TB, change func(*Config), ranges ...string) []*Network {
	tb.Helper()
	var all []*Network
	for _, r := range ranges {
		config := DefaultConfig()
		change(&config)
		config.Pods = netip.MustParsePrefix(r)
		if len(all) > 0 {
			hub, err := all[len(all)-1].Hub()
			if err != nil {
				tb.Fatal(err)
			}
			defer hub.Close()
			config.Hub = hub
		}
		n, err := New(config)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, n)
		tb.Cleanup(func() { n.Close() })
	}
	return all
}

// TestNodes has pods of several nodes reach each other, by address and by Service, and each see
// who it is that asks.
func TestNodes(t *testing.T) {
	t.Parallel()
	all := nodes(t, "10.244.0.0/18", "10.244.64.0/24", "10.244.128.0/18")
	ips := make([]netip.Addr, len(all))
	var endpoints []netip.AddrPort
	for i, n := range all {
		ips[i] = joined(t, n, "pod")
		serve(t, n, "pod", ":80", fmt.Sprint("pod", i))
		endpoints = append(endpoints, netip.AddrPortFrom(ips[i], 80))
		if !n.config.Pods.Contains(ips[i]) {
			t.Errorf("%s is not in %s", ips[i], n.config.Pods)
		}
	}
	for from, n := range all {
		for to, ip := range ips {
			want := fmt.Sprintf("pod%d to %s", to, ips[from])
			expect(t, n, "pod", netip.AddrPortFrom(ip, 80).String(), want)
			conn, err := n.Dial(t.Context(), netip.AddrPortFrom(ip, 80))
			if err != nil {
				t.Fatalf("node %d to %s: %v", from, ip, err)
			}
			conn.Close()
		}
		for to, endpoint := range endpoints {
			web := Port{netip.MustParseAddr("10.96.1.1"), 80, TCP}
			if err := n.SetServices([]Service{{At: web, Endpoints: []netip.AddrPort{endpoint}}}); err != nil {
				t.Fatal(err)
			}
			seen := ips[from]
			if from == to {
				seen = n.gateway
			}
			expect(t, n, "pod", "10.96.1.1:80", fmt.Sprintf("pod%d to %s", to, seen))
		}
		expect(t, n, "pod", "10.244.192.9:80", "network is unreachable") // of no node
	}
}

// TestNodeGoes: the others go on without a node, whichever it is, and it comes back, even if the
// kernel has not seen its end yet.
func TestNodeGoes(t *testing.T) {
	t.Parallel()
	all := nodes(t, "10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24")
	var ips []netip.Addr
	for i, n := range all {
		ips = append(ips, joined(t, n, "pod"))
		serve(t, n, "pod", ":80", fmt.Sprint("pod", i))
	}
	hub, err := all[1].Hub()
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	again := all[0].config // it is still there: as one that was killed a moment ago
	again.Hub = hub
	n, err := New(again)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ips[0] = joined(t, n, "pod")
	serve(t, n, "pod", ":80", "anew")
	for _, ip := range ips[1:] {
		expect(t, all[1], "pod", netip.AddrPortFrom(ip, 80).String(), "pod")
		expect(t, n, "pod", netip.AddrPortFrom(ip, 80).String(), "pod")
	}
	expect(t, all[2], "pod", netip.AddrPortFrom(ips[0], 80).String(), "anew to "+ips[2].String())
}

// BenchmarkNewBeside is BenchmarkNew for a node that is connected to another.
func BenchmarkNewBeside(b *testing.B) {
	config := DefaultConfig()
	config.Pods = netip.MustParsePrefix("10.244.1.0/24")
	hub, err := nodes(b, "10.244.0.0/24")[0].Hub()
	if err != nil {
		b.Fatal(err)
	}
	defer hub.Close()
	config.Hub = hub
	for b.Loop() {
		n, err := New(config)
		if err != nil {
			b.Fatal(err)
		}
		n.Close()
	}
}
