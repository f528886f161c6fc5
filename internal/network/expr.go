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

func loadTarget(register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: targetOffset, Len: 4}
}

// protocol goes on with packets of the protocol.
func protocol(p Protocol) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(p)}},
	}
}

// to goes on with packets whose target is, or is not, in the range.
func to(op expr.CmpOp, in netip.Prefix) []expr.Any {
	mask := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), in.Bits()).Masked().Addr()
	return []expr.Any{
		loadTarget(1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask.AsSlice(), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: in.Masked().Addr().AsSlice()},
	}
}

// not goes on with packets to anyone else.
func not(ip netip.Addr) []expr.Any {
	return []expr.Any{loadTarget(1), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ip.AsSlice()}}
}

// outside goes on with packets to what is neither a pod nor a Service.
func (r *rules) outside() []expr.Any {
	return concat(to(expr.CmpOpNeq, r.config.Cluster), to(expr.CmpOpNeq, r.config.Services), to(expr.CmpOpNeq, netip.MustParsePrefix("127.0.0.0/8")))
}

// toService leads packets to a Service to its chain.
func (r *rules) toService() []expr.Any {
	const address, protocol, port = 8, 9, 10 // registers of four bytes; 1 is the first of them
	return []expr.Any{
		loadTarget(address),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: protocol},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
		&expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: r.services.Name, SetID: r.services.ID},
	}
}

// toItself has packets from an endpoint to itself come from the gateway.
func (r *rules) toItself() []expr.Any {
	const source, target = 8, 9
	return []expr.Any{
		&expr.Payload{DestRegister: source, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: 4},
		loadTarget(target),
		&expr.Lookup{SourceRegister: 1, SetName: r.loops.Name, SetID: r.loops.ID},
		&expr.Immediate{Register: 1, Data: r.gateway.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}
}

// redirect takes packets to a port of this process.
func redirect(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.Redir{RegisterProtoMin: 1},
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
