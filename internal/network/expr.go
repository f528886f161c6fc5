package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// portOffset is where the target port is in a header of TCP and UDP.
const portOffset = 2

func concat(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

// protocol goes on with packets of the protocol.
func protocol(p Protocol) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(p)}},
	}
}

// to goes on with packets whose target is, or is not, in the range.
func (f *family) to(op expr.CmpOp, in netip.Prefix) []expr.Any {
	return f.within(f.target, op, in)
}

// not goes on with packets to anyone else.
func (f *family) not(ip netip.Addr) []expr.Any {
	return []expr.Any{f.load(1, f.target), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ip.AsSlice()}}
}

// outside goes on with packets to what is neither a pod nor a Service.
func (r *rules) outside() []expr.Any {
	return concat(r.to(expr.CmpOpNeq, r.cluster), r.to(expr.CmpOpNeq, r.serviceRange), r.to(expr.CmpOpNeq, r.loopback))
}

// key loads what a packet is sent to as the key of a Port; 1 is the register that it begins in.
func (f *family) key() []expr.Any {
	const address = 8 // registers of four bytes; 1 is the first of them
	protocol, port := address+f.words(), address+f.words()+1
	return []expr.Any{
		f.load(address, f.target),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: protocol},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
	}
}

// toService leads packets to a Service to its chain.
func (r *rules) toService() []expr.Any {
	return append(r.key(), &expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: r.services.Name, SetID: r.services.ID})
}

// notLed goes on with packets to what is no Service with an address outside.
func (r *rules) notLed() []expr.Any {
	return append(r.key(), &expr.Lookup{SourceRegister: 1, SetName: r.led.Name, SetID: r.led.ID, Invert: true})
}

// toItself has packets from an endpoint to itself come from the gateway.
func (r *rules) toItself() []expr.Any {
	return append(r.fromItself(), r.asGateway()...)
}

// redirect takes packets to a port of this process. (What nftables calls so wants an address on
// the link by which they come.)
func (r *rules) redirect(port uint16) []expr.Any {
	const address = 8
	number := address + r.words()
	return []expr.Any{
		&expr.Immediate{Register: address, Data: r.gateway.AsSlice()},
		&expr.Immediate{Register: number, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: r.number, RegAddrMin: address, RegProtoMin: number, Specified: true},
	}
}

// carry takes packets to a port of this process without changing their target.
func (f *family) carry(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.TProxy{Family: byte(f.number), TableFamily: byte(f.number), RegPort: 1},
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
