package network

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A pod whose link is its own, and not a macvlan beside others, can send nothing that the node does
// not know to be from it: what comes by the link from another address than the pod's is dropped.
// Beside others a pod that writes its packets itself (NET_RAW, which is a default) may put the
// address of a neighbour into them, and one that may change links (NET_ADMIN) has more to try. So
// the latter get a link of their own before they begin, and those that may not reach everything
// when that is said of them: they would do it in the name of one that may.
const ownLinks = 1 << 20 // the index of the first one in the node's namespace

// ownLocked gives a pod a link of its own in place of the one that it has. Connections go on. The
// space serves nobody again.
func (n *Network) ownLocked(s *space) (err error) {
	if s.link != 0 {
		return nil
	}
	s.changed = true
	n.thread.do(func() { err = n.relink(s) })
	if err != nil {
		return fmt.Errorf("network: give %s a link of its own: %w", s.address, err)
	}
	return nil
}

// relink is called in the thread, and leaves it where it was.
func (n *Network) relink(s *space) error {
	if err := enter(s.ns); err != nil {
		return err
	}
	own, err := openRTNetlink()
	n.back()
	if err != nil {
		return err
	}
	defer own.close()
	own.remove(eth0)
	if err := own.do(); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	index, mac, gatewayMAC := ownLinks+indexOf(n.config.Pods, s.address), macOf(macPod, s.address), n.gatewayMAC(s.address)
	l := n.links
	l.remove(index) // of one that was at this address, if the kernel has not seen its end yet
	if err := l.do(); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	l.vethInto(fmt.Sprintf("pod%d", index-ownLinks), index, gatewayMAC, "eth0", eth0, mac, s.ns)
	l.silent(index)
	l.neighbours(index, s, mac)
	l.route(index, netip.PrefixFrom(s.address, 32), netip.Addr{}, n.gateway)
	if s.address6.IsValid() {
		l.route(index, netip.PrefixFrom(s.address6, 128), netip.Addr{}, n.gateway6)
	}
	if err := l.do(); err != nil {
		return err
	}
	s.link = index
	n.settle(own, s)
	return errors.Join(own.do(), l.ready(index))
}

// unlinkLocked takes the link of its own from a pod that has left: its address may be another's
// before the kernel has seen the end of the namespace.
func (n *Network) unlinkLocked(s *space) {
	if s.link == 0 {
		return
	}
	n.thread.do(func() {
		n.links.remove(s.link)
		if err := n.links.do(); err != nil && !errors.Is(err, unix.ENODEV) {
			n.config.Log.Warn("a pod's link stays", "err", err)
		}
	})
	s.link = 0
}
