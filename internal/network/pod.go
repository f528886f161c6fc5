package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// podsOfParent is how many pods have one pair of links for a parent: a power of two. The
// kernel goes through them all to make one more.
const podsOfParent = 512

// parent returns the indexes of the pair of links that the pod with the address belongs to.
func (n *Network) parent(ip netip.Addr) (up, host int) {
	i := indexOf(n.config.Pods, ip) / podsOfParent
	return linkUp(i), linkHost(i)
}

// Links of the node's namespace have the indexes that we give them.
func linkUp(parent int) int   { return 10 + 2*parent }
func linkHost(parent int) int { return 11 + 2*parent }

// addParent makes one more pair of links. It is called in the thread.
func (n *Network) addParent() error {
	i := n.parents
	first := nth(n.config.Pods, i*podsOfParent)
	up, host := "up"+strconv.Itoa(i), "host"+strconv.Itoa(i)
	l := n.links
	l.veth(up, linkUp(i), macOf(macParent, first), host, linkHost(i), macOf(macGateway, first))
	l.up(linkUp(i))
	l.silent(linkHost(i))
	if i == 0 {
		l.address(linkHost(0), n.gateway)
		if n.gateway6.IsValid() {
			l.address(linkHost(0), n.gateway6)
		}
	}
	block := netip.PrefixFrom(first, 32)
	for 1<<(32-block.Bits()) < podsOfParent && block.Bits() > n.config.Pods.Bits() {
		block = netip.PrefixFrom(first, block.Bits()-1)
	}
	l.route(linkHost(i), block, netip.Addr{}, n.gateway)
	if n.gateway6.IsValid() {
		l.route(linkHost(i), n.config.PodsIPv6(block), netip.Addr{}, n.gateway6)
	}
	if err := l.do(); err != nil {
		return err
	}
	for _, index := range []int{linkUp(i), linkHost(i)} {
		if err := l.ready(index); err != nil {
			return err
		}
	}
	n.parents++
	return nil
}

// Join returns the addresses of a pod, and gives it some if it has none. While a space is made for it,
// others come and go.
func (n *Network) Join(uid string) (Addresses, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.takeLocked(uid); s != nil {
		return s.addresses(), nil
	}
	n.joining[uid] = true
	n.mu.Unlock()
	n.making.Lock()
	defer n.making.Unlock()
	n.mu.Lock()
	if s := n.pods[uid]; s == nil && !n.joining[uid] {
		return Addresses{}, ErrNotFound // it has left again
	}
	s := n.takeLocked(uid) // what a pod has left meanwhile
	if s != nil {
		return s.addresses(), nil
	}
	s, err := n.makeLocked()
	if err != nil {
		delete(n.joining, uid)
		return Addresses{}, err
	}
	if !n.joining[uid] {
		n.pool.put(s, time.Now())
		return Addresses{}, ErrNotFound
	}
	n.placeLocked(uid, s)
	return s.addresses(), nil
}

// Addresses are those of a pod.
type Addresses struct {
	IPv4 netip.Addr
	IPv6 netip.Addr // not valid if it has none
}

func (s *space) addresses() Addresses { return Addresses{s.address, s.address6} }

// takeLocked returns the space of a pod, if it has one or there is one for it.
func (n *Network) takeLocked(uid string) *space {
	if s := n.pods[uid]; s != nil {
		return s
	}
	s := n.pool.take(time.Now())
	if s != nil {
		n.placeLocked(uid, s)
	}
	return s
}

// placeLocked gives a pod its space.
func (n *Network) placeLocked(uid string, s *space) {
	delete(n.joining, uid)
	n.pods[uid] = s
	n.outside.join(s.address, s.address6)
	if n.pool.ready(time.Now()) < spareSpaces {
		n.ahead.soon()
	}
}

// Namespace returns the descriptor of a pod's namespace, which is valid until Leave.
func (n *Network) Namespace(uid string) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.pods[uid]
	if s == nil {
		return -1, ErrNotFound
	}
	return s.ns, nil
}

// Inside calls f in the namespace of a pod, in which it must start nothing that goes on.
func (n *Network) Inside(uid string, f func() error) error {
	ns, err := n.Namespace(uid)
	if err != nil {
		return err
	}
	n.thread.do(func() {
		if err = enter(ns); err != nil {
			return
		}
		defer n.back()
		err = f()
	})
	return err
}

// Tune calls f, which changes kernel parameters, in the namespace of a pod. That is no other pod's
// then.
func (n *Network) Tune(uid string, f func() error) error {
	n.mu.Lock()
	s := n.pods[uid]
	if s != nil {
		s.changed = true
	}
	n.mu.Unlock()
	return n.Inside(uid, f)
}

// back brings the thread back to the node's namespace: nothing can be done for any pod by
// one that is astray.
func (n *Network) back() {
	if err := enter(n.node); err != nil {
		panic(fmt.Sprintf("network: %v", err))
	}
}

// Change says that the pod may change its network, so that nobody else gets it, and that it has
// a link of its own: see own.go.
func (n *Network) Change(uid string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.pods[uid]; s != nil {
		return n.ownLocked(s)
	}
	return nil
}

// Leave gives back the address of a pod that has ended. One that has none is no error.
func (n *Network) Leave(uid string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.joining, uid)
	if s := n.pods[uid]; s != nil {
		delete(n.pods, uid)
		n.outside.leave(s.address, s.address6)
		n.unlinkLocked(s)
		n.pool.put(s, time.Now())
	}
}

// makeLocked makes a space. It is called with n.making held, too, and lets go of n.mu meanwhile.
func (n *Network) makeLocked() (*space, error) {
	if n.closed {
		return nil, fmt.Errorf("network: %w", net.ErrClosed)
	}
	address, err := n.pool.address(n.config.Pods)
	if err != nil {
		return nil, err
	}
	s := &space{address: address, address6: n.config.beside(address), ns: -1}
	n.mu.Unlock()
	n.thread.do(func() { err = n.furnish(s) })
	n.mu.Lock()
	if err != nil {
		if s.ns >= 0 {
			_ = unix.Close(s.ns)
		}
		if s.sockets != nil {
			s.sockets.Close()
		}
		n.pool.gone = append(n.pool.gone, address)
		return nil, fmt.Errorf("network: %w", err)
	}
	return s, nil
}

// furnish makes the namespace of a space and what is in it. It is called in the thread,
// and leaves it where it was.
func (n *Network) furnish(s *space) (err error) {
	for indexOf(n.config.Pods, s.address)/podsOfParent >= n.parents {
		if err := n.addParent(); err != nil {
			return err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	own, err := s.begin()
	n.back()
	if own != nil {
		defer own.close()
	}
	if err != nil {
		return err
	}
	up, host := n.parent(s.address)
	mac := macOf(macPod, s.address)
	n.links.macvlan(up, eth0, "eth0", mac, s.ns)
	n.links.neighbours(host, s, mac)
	if err := n.links.do(); err != nil {
		return err
	}
	own.up(loopback)
	n.settle(own, s)
	return own.do()
}

// neighbours says for ever which MAC address a pod has on a link.
func (r *rtnetlink) neighbours(index int, s *space, mac net.HardwareAddr) {
	r.neighbour(index, s.address, mac)
	if s.address6.IsValid() {
		r.neighbour(index, s.address6, mac)
	}
}

// eth0 is the index of a pod's link.
const eth0 = 2

// settle has a pod's link lead to the gateway. It is not silent: one that needs not ask who has an address
// would follow whoever tells it of a way around the gateway.
func (n *Network) settle(own *rtnetlink, s *space) {
	mac := n.gatewayMAC(s.address)
	own.up(eth0)
	own.address(eth0, s.address)
	own.neighbour(eth0, n.gateway, mac)
	own.route(eth0, netip.PrefixFrom(n.gateway, 32), netip.Addr{}, netip.Addr{})
	own.route(eth0, netip.PrefixFrom(netip.IPv4Unspecified(), 0), n.gateway, netip.Addr{})
	if s.address6.IsValid() {
		own.address(eth0, s.address6)
		own.neighbour(eth0, n.gateway6, mac)
		own.route(eth0, netip.PrefixFrom(netip.IPv6Unspecified(), 0), n.gateway6, netip.Addr{})
	}
}

// gatewayMAC is the MAC address that the gateway has for a pod.
func (n *Network) gatewayMAC(pod netip.Addr) net.HardwareAddr {
	_, host := n.parent(pod)
	return macOf(macGateway, nth(n.config.Pods, (host-linkHost(0))/2*podsOfParent))
}

// begin opens what is needed of the namespace that the thread has just made.
func (s *space) begin() (own *rtnetlink, err error) {
	if s.ns, err = openNamespace(); err != nil {
		return nil, err
	}
	if s.sockets, err = os.Open("/proc/thread-self/net/sockstat"); err != nil {
		return nil, err
	}
	// As containerd has it: no port and no ping needs a right of its own.
	if err := sysctl("ipv4/ip_unprivileged_port_start", "0"); err != nil {
		return nil, err
	}
	if err := sysctl("ipv4/ping_group_range", "0 2147483647"); err != nil {
		_ = sysctl("ipv4/ping_group_range", "0 0") // no more groups than that are known in a user namespace
	}
	// Not even this: an address of IPv6 that a link makes for itself is announced to all others.
	if err := sysctl("ipv6/conf/default/addr_gen_mode", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return openRTNetlink()
}
