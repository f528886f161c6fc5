package network

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What the kernel does for IPv4 by itself (rp_filter, NOARP), rules have to do for IPv6. A network
// takes nothing of IPv6 from pods but packets from one address to another, each with the sender's
// own for a source:
//
//   - An address is believed where a route leads back to it.
//   - Who has which address and who is a router is known, and nobody is asked or told: what says so is dropped
//     (neighbour discovery, advertisements, redirects), so that no pod can speak for another, or fill the
//     kernel's table of neighbours, which all namespaces of the machine have in common.
//   - Nobody has an address of a link or listens to many: links are given none (addr_gen_mode).
//   - No packet says by itself which way it takes (routing headers).
//
// All of this is before connections are looked at: what is dropped leaves no trace.
func (r *rules) strangers(hook hooker) {
	drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	hook("strangers", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, r.refused(drop)...)
}

// refused are rules that do something with packets that nobody has to send.
func (f *family) refused(verdict []expr.Any) [][]expr.Any {
	return [][]expr.Any{
		concat(f.to(expr.CmpOpEq, multicast), verdict),
		concat(f.to(expr.CmpOpEq, linkLocal), verdict),
		concat(f.within(f.source, expr.CmpOpEq, linkLocal), verdict),
		concat(discovery(), verdict),
		concat(routed(), verdict),
		concat(unknown(), verdict),
	}
}

// unknown goes on with packets from an address that is not where they come from.
func unknown() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
}

// discovery goes on with what hosts and routers say of themselves and of each other.
func discovery() []expr.Any {
	const routerSolicitation, redirect = 133, 137 // and all between
	return append(protocol(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{routerSolicitation}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{redirect}},
	)
}

// routed goes on with packets that have a routing header.
func routed() []expr.Any {
	return []expr.Any{
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_ROUTING, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, Op: expr.ExthdrOpIpv6},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}
}

// guardHub has the hub, in whose namespace the thread is, take from a node only what comes from that
// node's pods. It may be said again: a hub is older than most of its nodes.
func guardHub() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Name: "sampan", Family: ipv6.table})
	chain := conn.AddChain(&nftables.Chain{
		Name: "strangers", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	conn.FlushChain(chain)
	for _, exprs := range ipv6.refused([]expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}) {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// forward6 has the namespace that the thread is in pass packets of IPv6 on, and its links have no
// addresses but those that they are given, from now on.
func forward6() error {
	return errors.Join(
		sysctl("ipv6/conf/all/forwarding", "1"),
		sysctl("ipv6/conf/all/accept_ra", "0"),
		sysctl("ipv6/conf/default/accept_ra", "0"),
		sysctl("ipv6/conf/default/addr_gen_mode", "1"),
	)
}
