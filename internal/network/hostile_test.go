package network

import (
	"net/netip"
	"strings"
	"testing"
)

// TestServicesOfOneAreNotAll has Services that are too much for one message to the kernel, or too large
// for the kernel: no other is held up by them, and each that can be is there.
func TestServicesOfOneAreNotAll(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	server := netip.AddrPortFrom(joined(t, n, "server"), 8080)
	joined(t, n, "client")
	serve(t, n, "server", ":8080", "hello")
	crowd := func(size int) (list []netip.AddrPort) {
		for i := range size {
			list = append(list, netip.AddrPortFrom(nth(n.config.Pods, 1000+i), 80))
		}
		return list
	}
	service := func(ip string, port int, endpoints ...netip.AddrPort) Service {
		return Service{At: Port{netip.MustParseAddr(ip), uint16(port), TCP}, Endpoints: endpoints}
	}
	list := []Service{service("10.96.0.20", 80, crowd(maxEndpoints+1)...)}
	for port := range 500 {
		list = append(list, service("10.96.0.21", port+1, crowd(100)...))
	}
	for range 3 { // it goes on with what is there
		list = append(list, service("10.96.0.22", len(list), crowd(maxEndpoints)...))
		last := len(list)
		list = append(list, service("10.96.0.22", last, server))
		err := n.SetServices(list)
		if err == nil || !strings.Contains(err.Error(), "10.96.0.20:80/6: 1001 endpoints") || strings.Contains(err.Error(), "10.96.0.21") {
			t.Errorf("got %v", err)
		}
		if had := len(n.rules.now); had != len(list)-1 {
			t.Errorf("%d of %d Services are there", had, len(list)-1)
		}
		expect(t, n, "client", list[last].At.Address.String()+":"+strings.Split(strings.Split(list[last].At.String(), ":")[1], "/")[0], "hello")
	}
	if err := n.SetServices(list[len(list)-1:]); err != nil || len(n.rules.now) != 1 || len(n.rules.uses) != 1 {
		t.Errorf("got %v; %d Services, %d endpoints are left", err, len(n.rules.now), len(n.rules.uses))
	}
}
