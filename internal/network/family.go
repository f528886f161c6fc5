package network

import (
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// family is what is different about the two versions of IP. A network has its rules once for each of
// them that it has, in a table of its own: what a packet of one is let through by says nothing of
// the other.
type family struct {
	six    bool
	table  nftables.TableFamily
	number uint32 // as netfilter's expressions have it
	socket int
	// size is how long an address is, and source and target where a header has them.
	size, source, target uint32
	address              nftables.SetDatatype
	// unreachable is the code by which ICMP says that nobody is at a port.
	unreachable uint8
	loopback    netip.Prefix
	// Options of sockets, at the level of their name.
	level, transparent, wasFor, pktInfo, original int
}

var ipv4 = family{
	table: nftables.TableFamilyIPv4, number: unix.NFPROTO_IPV4, socket: unix.AF_INET,
	size: 4, source: 12, target: 16, address: nftables.TypeIPAddr,
	unreachable: 3, loopback: netip.MustParsePrefix("127.0.0.0/8"),
	level: unix.SOL_IP, transparent: unix.IP_TRANSPARENT, wasFor: unix.IP_RECVORIGDSTADDR, pktInfo: unix.IP_PKTINFO, original: unix.SO_ORIGINAL_DST,
}

var ipv6 = family{
	six:   true,
	table: nftables.TableFamilyIPv6, number: unix.NFPROTO_IPV6, socket: unix.AF_INET6,
	size: 16, source: 8, target: 24, address: nftables.TypeIP6Addr,
	unreachable: 4, loopback: netip.MustParsePrefix("::1/128"),
	level: unix.SOL_IPV6, transparent: unix.IPV6_TRANSPARENT, wasFor: unix.IPV6_RECVORIGDSTADDR, pktInfo: unix.IPV6_RECVPKTINFO, original: 80, // IP6T_SO_ORIGINAL_DST
}

// Addresses of IPv6 that mean something else on each link.
var (
	multicast = netip.MustParsePrefix("ff00::/8")
	linkLocal = netip.MustParsePrefix("fe80::/10")
)

// familyOf is that of an address.
func familyOf(ip netip.Addr) *family {
	if ip.Is4() {
		return &ipv4
	}
	return &ipv6
}

// words is how many registers of four bytes an address takes.
func (f *family) words() uint32 { return f.size / 4 }

// unspecified is the address that stands for all of a machine's.
func (f *family) unspecified() netip.Addr {
	if f.six {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// network returns the name that package net has for a protocol of the family.
func (f *family) network(protocol string) string {
	if f.six {
		return protocol + "6"
	}
	return protocol + "4"
}

// side is a network as packets of one family see it.
type side struct {
	*family
	cluster, serviceRange  netip.Prefix
	gateway, machine, name netip.Addr // name is where names are asked for: invalid, if not here
}

// sides are those that a network has, that of IPv4 first.
func (c *Config) sides() []side {
	gateway := c.Pods.Addr().Next()
	all := []side{{&ipv4, c.Cluster, c.Services, gateway, c.machineAddress(), c.Names}}
	if c.IPv6 {
		all = append(all, side{&ipv6, c.Cluster6, c.Services6, c.beside(gateway), c.machineAddress6(), netip.Addr{}})
	}
	return all
}

// beside returns the address of IPv6 that whoever has one of the cluster's addresses of IPv4 has, too;
// it is not valid if there is no IPv6. So nothing has to be kept of which is whose, and there are as many.
func (c *Config) beside(ip netip.Addr) netip.Addr {
	if !c.IPv6 {
		return netip.Addr{}
	}
	return c.at6(0, indexOf(c.Cluster, ip))
}

// at6 returns an address of the cluster's range of IPv6: what is not a pod is in another part of it.
func (c *Config) at6(part byte, i int) netip.Addr {
	a := c.Cluster6.Masked().Addr().As16()
	a[7] |= part
	a[12], a[13], a[14], a[15] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
	return netip.AddrFrom16(a)
}

// The parts of the cluster's range in which there are no pods.
const (
	partOfHub      = 0xff
	partOfMachines = 0xfe
)

// PodsIPv6 returns the range of the addresses of IPv6 that the pods of a node have whose range is
// pods: not valid, if they have none.
func (c *Config) PodsIPv6(pods netip.Prefix) netip.Prefix {
	if !c.IPv6 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(c.beside(pods.Masked().Addr()), 128-(32-pods.Bits()))
}

// PodRanges are the ranges of the pods' addresses of a node whose range of IPv4 is pods.
func (c *Config) PodRanges(pods netip.Prefix) []netip.Prefix {
	all := []netip.Prefix{pods}
	if c.IPv6 {
		all = append(all, c.PodsIPv6(pods))
	}
	return all
}

// ServiceRanges are those of the Services' addresses, that of IPv4 first.
func (c Config) ServiceRanges() []string {
	all := []string{c.Services.String()}
	if c.IPv6 {
		all = append(all, c.Services6.String())
	}
	return all
}

// HasIPv6 tells whether this machine has IPv6: whether it has it on its own loopback, which is what is left of it
// where there is no other.
func HasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}) == nil
}

// IsPod tells whether an address is of those that pods of any node have, if they have any of its family.
func (c *Config) IsPod(ip netip.Addr) bool {
	return c.Cluster.Contains(ip) || c.Cluster6.Contains(ip)
}

// IsService tells whether an address is of those that Services have, if they have any of its family.
func (c *Config) IsService(ip netip.Addr) bool {
	return c.Services.Contains(ip) || c.Services6.Contains(ip)
}

// of returns the rules of the family of an address: nil, if there is no such family.
func (n *Network) of(ip netip.Addr) *rules {
	if ip.Is4() {
		return n.rules
	}
	return n.rules6
}
