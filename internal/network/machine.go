package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The machine itself reaches pods and Services by their addresses when it is asked to (Config.Machine), as
// a node of Kubernetes does: it has a link of its own into the node's namespace then, with routes. Who has
// started this process has to have rights over the machine's network for that.
//
//	machine   sampan0 ═ machine   node
//
// Its packets have the link's address, which is nobody's outside, and pods see the gateway. No policy holds
// for them, as for those of a node's host. From elsewhere nothing comes this way, even if the machine passes
// packets on: the node takes from the link only what has the link's address. Link and routes go with the
// node's namespace.
const (
	machineLink  = 3 // its index in the node's namespace
	routesMetric = 1024
)

// number is the node's among those of the machine, from what its pods' addresses begin with.
func (c *Config) number() int { return indexOf(c.Cluster, c.Pods.Addr()) >> 8 & 0xff }

// machineAddress is what the machine is called on its link.
func (c *Config) machineAddress() netip.Addr {
	return netip.AddrFrom4([4]byte{169, 254, 96, byte(1 + c.number())})
}

// machineAddress6 is what it is called by IPv6.
func (c *Config) machineAddress6() netip.Addr {
	if !c.IPv6 {
		return netip.Addr{}
	}
	return c.at6(partOfMachines, 1+c.number())
}

// connectMachine makes the link. It is called in a thread that is in the machine's namespace.
func (n *Network) connectMachine() error {
	machine, err := openNamespace()
	if err != nil {
		return err
	}
	defer unix.Close(machine)
	links, err := openRTNetlink()
	if err != nil {
		return err
	}
	defer links.close()
	name, at := fmt.Sprintf("sampan%d", n.config.number()), n.config.machineAddress()
	at6 := n.config.machineAddress6()
	own, theirs := macOf(macMachine, n.gateway), macOf(macMachine, at)
	n.thread.do(func() {
		l := n.links
		l.vethInto("machine", machineLink, own, name, 0, theirs, machine)
		l.silent(machineLink)
		l.neighbour(machineLink, at, theirs)
		l.route(machineLink, netip.PrefixFrom(at, 32), netip.Addr{}, n.gateway)
		if n.gateway6.IsValid() {
			l.neighbour(machineLink, at6, theirs)
			l.route(machineLink, netip.PrefixFrom(at6, 128), netip.Addr{}, n.gateway6)
		}
		err = l.do()
	})
	if err != nil {
		return err
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	links.silent(link.Index)
	links.address(link.Index, at)
	links.neighbour(link.Index, n.gateway, own)
	for _, to := range []netip.Prefix{n.config.Pods, n.config.Services} {
		// Each node leads to all Services: one that dies leaves the route to another.
		links.routeBy(link.Index, to, n.gateway, at, routesMetric+n.config.number())
	}
	if n.gateway6.IsValid() {
		links.address(link.Index, at6)
		links.neighbour(link.Index, n.gateway6, own)
		for _, to := range []netip.Prefix{n.config.PodsIPv6(n.config.Pods), n.config.Services6} {
			links.routeBy(link.Index, to, n.gateway6, at6, routesMetric+n.config.number())
		}
	}
	if err := errors.Join(links.do(), links.ready(link.Index)); err != nil {
		n.disconnectMachine()
		return err
	}
	n.outside.join(at, at6) // to what Services lead to that is no pod
	return nil
}

// disconnectMachine takes back what there is of a link that does not lead anywhere.
func (n *Network) disconnectMachine() {
	n.thread.do(func() {
		n.links.remove(machineLink)
		if err := n.links.do(); err != nil {
			n.config.Log.Warn("a link of this machine stays", "err", err)
		}
	})
}

// fromMachine goes on with packets from the machine.
func (r *rules) fromMachine() []expr.Any {
	return r.within(r.source, expr.CmpOpEq, netip.PrefixFrom(r.machine, r.machine.BitLen()))
}

// asGateway has packets come from the gateway.
func (r *rules) asGateway() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: r.gateway.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: r.number, RegAddrMin: 1},
	}
}

// Unreached says why the machine does not reach pods and Services by their addresses, though
// Config.Machine asks for it; "": it does, or nobody has asked.
func (n *Network) Unreached() string { return n.unreached }

// errMachine says why this machine does not reach pods.
func errMachine(err error) error {
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("another engine of this machine has the same addresses, and --pod-routes: %w", err)
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("this user has no rights over the machine's network: %w", err)
	}
	return err
}
