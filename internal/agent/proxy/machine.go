package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sampan-batch/sampan/internal/network"
)

// Machine are the addresses of this machine as far as Services go.
type Machine struct {
	// NodePorts are where node ports are opened, for who is on the machine or, with others than loopback
	// addresses, anywhere.
	NodePorts []netip.Addr
	// ForPods are those at which pods find node ports, whether or not these are open to others: what the
	// machine has for itself is not among them, and what is taken for a pod's or a Service's.
	ForPods []netip.Addr
}

// loopback is where node ports are unless others are asked for: who is on the machine reaches them, and
// nobody else.
var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// PrimaryAddress stands for the machine's first address among those that node ports are at, as for kube-proxy.
const PrimaryAddress = "primary"

// NodePortAddresses reads kube-proxy's --nodeport-addresses: ranges of addresses, with commas, or "primary";
// "" are the machine's loopback addresses.
func NodePortAddresses(text string) (ranges []netip.Prefix, primary bool, err error) {
	switch text {
	case "":
		for _, ip := range loopback {
			ranges = append(ranges, netip.PrefixFrom(ip, ip.BitLen()))
		}
		return ranges, false, nil
	case PrimaryAddress:
		return nil, true, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, false, fmt.Errorf("%q is no range of addresses, as 192.0.2.0/24, and not %q", part, PrimaryAddress)
		}
		ranges = append(ranges, p.Masked())
	}
	return ranges, false, nil
}

// MachineOf returns what a machine with these addresses, the primary one first, has for Services.
// nodePorts is what NodePortAddresses reads.
func MachineOf(addresses []string, nodePorts string) (m Machine, err error) {
	ranges, primary, err := NodePortAddresses(nodePorts)
	if err != nil {
		return m, err
	}
	all := parsed(addresses)
	own := network.DefaultConfig()
	m.ForPods = slices.DeleteFunc(slices.Clone(all), func(ip netip.Addr) bool {
		return !ip.IsGlobalUnicast() || own.IsPod(ip) || own.IsService(ip)
	})
	first := map[bool]bool{} // of its family
	for _, ip := range append(all, loopback...) {
		within := slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(ip) })
		if (within || primary && !first[ip.Is4()]) && !slices.Contains(m.NodePorts, ip) {
			m.NodePorts = append(m.NodePorts, ip)
		}
		first[ip.Is4()] = true
	}
	return m, nil
}
