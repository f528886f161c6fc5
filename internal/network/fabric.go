package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The nodes of one machine reach each other's pods by a namespace between them, the hub: each has
// a veth there, and the hub a route to each. Whoever is a node keeps the hub open, and nobody else
// does, so that it is there as long as any of them. What a node leaves behind in it goes with the
// node's own end.
//
//	node   fabric ═ link of the node   hub   link of another ═ fabric   node
//
// The hub takes from a node only what comes from that node's pods.
const (
	fabricLink = 2 // its index in the node's namespace
	hubLinks   = 10
)

// hubAddress is what the hub is called on its links.
var hubAddress = netip.AddrFrom4([4]byte{169, 254, 0, 1})

// hubAddress6 is what it is called by IPv6.
func (c *Config) hubAddress6() netip.Addr { return c.at6(partOfHub, 1) }

// Hub returns a descriptor of the namespace that connects this node to others of the machine,
// which is the caller's. The first one to be asked makes it.
func (n *Network) Hub() (_ *os.File, err error) {
	n.thread.do(func() {
		if n.hub < 0 {
			err = n.makeHub()
		}
	})
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	fd, err := unix.FcntlInt(uintptr(n.hub), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "hub"), nil
}

// makeHub makes a hub and connects to it. It is called in the thread.
func (n *Network) makeHub() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	hub, err := furnishHub()
	n.back()
	if err == nil {
		err = n.connectTo(hub)
	}
	if err != nil && hub >= 0 {
		_ = unix.Close(hub)
	}
	return err
}

// furnishHub has the namespace that the thread has just made pass packets on.
func furnishHub() (int, error) {
	hub, err := openNamespace()
	if err != nil {
		return -1, err
	}
	for name, value := range map[string]string{
		"ip_forward":                  "1",
		"conf/all/rp_filter":          "1", // nobody sends in the name of another node's pod
		"conf/all/send_redirects":     "0",
		"conf/default/send_redirects": "0", // of the links to come: either of the two is enough to send them
	} {
		if err := sysctl("ipv4/"+name, value); err != nil {
			return hub, err
		}
	}
	links, err := openRTNetlink()
	if err != nil {
		return hub, err
	}
	defer links.close()
	links.up(loopback)
	links.address(loopback, hubAddress)
	return hub, links.do()
}

// connectTo connects this node to a hub, whose descriptor is the Network's if that succeeds. It
// is called in the thread, and leaves it where it was.
func (n *Network) connectTo(hub int) error {
	own := macOf(macFabric, n.gateway)
	theirs := macOf(macHub, n.gateway)
	if err := n.attach(hub, own, theirs); err != nil {
		return fmt.Errorf("connect to other nodes: %w", err)
	}
	l := n.links
	l.up(fabricLink)
	l.neighbour(fabricLink, hubAddress, theirs)
	l.route(fabricLink, netip.PrefixFrom(hubAddress, 32), netip.Addr{}, n.gateway)
	l.route(fabricLink, n.config.Cluster, hubAddress, n.gateway)
	if n.gateway6.IsValid() {
		l.neighbour(fabricLink, n.config.hubAddress6(), theirs)
		l.route(fabricLink, n.config.Cluster6, n.config.hubAddress6(), n.gateway6)
	}
	if size := 1 << (32 - n.config.Pods.Bits()); size > podsOfParent && n.config.Pods != n.config.Cluster {
		for _, own := range n.config.PodRanges(n.config.Pods) {
			l.unreachable(own) // else what is for nobody here would come back from the hub
		}
	}
	if err := errors.Join(l.do(), l.ready(fabricLink)); err != nil {
		return fmt.Errorf("connect to other nodes: %w", err)
	}
	n.hub = hub
	return nil
}

// furnishHub6 has the hub, in whose namespace the thread is, pass packets of IPv6 on. It may have been made
// by a node that has none of these.
func (n *Network) furnishHub6(links *rtnetlink) error {
	if err := errors.Join(forward6(), guardHub()); err != nil {
		return err
	}
	links.address(loopback, n.config.hubAddress6())
	if err := links.do(); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// attach makes the veth, and does the hub's part.
func (n *Network) attach(hub int, own, theirs []byte) error {
	if err := enter(hub); err != nil {
		return err
	}
	defer n.back()
	links, err := openRTNetlink()
	if err != nil {
		return err
	}
	defer links.close()
	if n.gateway6.IsValid() {
		if err := n.furnishHub6(links); err != nil {
			return err
		}
	}
	index := hubLinks + indexOf(n.config.Cluster, n.config.Pods.Addr())
	// A node that was killed may not have left yet: the kernel takes its time.
	links.remove(index)
	if err := links.do(); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	links.vethInto(fmt.Sprintf("node%d", index), index, theirs, "fabric", fabricLink, own, n.node)
	links.up(index)
	links.neighbour(index, n.gateway, own)
	links.route(index, n.config.Pods, n.gateway, netip.Addr{})
	if n.gateway6.IsValid() {
		links.neighbour(index, n.gateway6, own)
		links.route(index, n.config.PodsIPv6(n.config.Pods), n.gateway6, netip.Addr{})
	}
	return errors.Join(links.do(), links.ready(index))
}
