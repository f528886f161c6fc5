package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Where the addresses are in a header of IPv4, and the target port in one of TCP and UDP.
const (
	sourceOffset, targetOffset = 12, 16
	portOffset                 = 2
)

func concat(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

// protocol goes on with packets of the protocol.
func protocol(p Protocol) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(p)}},
	}
}

// to goes on with packets whose target is, or is not, in the range.
func to(op expr.CmpOp, in netip.Prefix) []expr.Any {
	return within(targetOffset, op, in)
}

// not goes on with packets to anyone else.
func not(ip netip.Addr) []expr.Any {
	return []expr.Any{load(1, targetOffset), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ip.AsSlice()}}
}

// outside goes on with packets to what is neither a pod nor a Service.
func (r *rules) outside() []expr.Any {
	return concat(to(expr.CmpOpNeq, r.config.Cluster), to(expr.CmpOpNeq, r.config.Services), to(expr.CmpOpNeq, netip.MustParsePrefix("127.0.0.0/8")))
}

// target loads what a packet is sent to as the key of a Port; 1 is the register that it begins in.
func target() []expr.Any {
	const address, protocol, port = 8, 9, 10 // registers of four bytes; 1 is the first of them
	return []expr.Any{
		load(address, targetOffset),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: protocol},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
	}
}

// toService leads packets to a Service to its chain.
func (r *rules) toService() []expr.Any {
	return append(target(), &expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: r.services.Name, SetID: r.services.ID})
}

// notLed goes on with packets to what is no Service with an address outside.
func (r *rules) notLed() []expr.Any {
	return append(target(), &expr.Lookup{SourceRegister: 1, SetName: r.led.Name, SetID: r.led.ID, Invert: true})
}

// toItself has packets from an endpoint to itself come from the gateway.
func (r *rules) toItself() []expr.Any {
	return append(r.fromItself(), r.asGateway()...)
}

// redirect takes packets to a port of this process. (What nftables calls so wants an address on
// the link by which they come.)
func (r *rules) redirect(port uint16) []expr.Any {
	const address, number = 8, 9
	return []expr.Any{
		&expr.Immediate{Register: address, Data: r.gateway.AsSlice()},
		&expr.Immediate{Register: number, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: address, RegProtoMin: number, Specified: true},
	}
}

// carry takes packets to a port of this process without changing their target.
func carry(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.TProxy{Family: unix.NFPROTO_IPV4, TableFamily: unix.NFPROTO_IPV4, RegPort: 1},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

func gotoChain(c *nftables.Chain) *expr.Verdict {
	return &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.Name}
}

// portKey is a Port as the kernel has it in a set: each part in whole words.
func portKey(p Port) []byte {
	return append(p.Address.AsSlice(), byte(p.Protocol), 0, 0, 0, byte(p.Port>>8), byte(p.Port), 0, 0)
}

func loopKey(ip netip.Addr) []byte { return append(ip.AsSlice(), ip.AsSlice()...) }
