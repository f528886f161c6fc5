package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rules are the translations of addresses in the node's namespace: an nftables table.
//
//	translate   to a port of a Service: one of its endpoints instead; to the outside: this
//	            process instead
//	sent        the same for what this process sends
//	back        a pod that has got itself for an endpoint answers to the gateway, else its
//	            answer would never come back here
//	carry       UDP to the outside: this process, as it is
//	refuse      a port of a Service that has nobody who answers
type rules struct {
	config  Config
	gateway netip.Addr
	conn    *nftables.Conn
	table   *nftables.Table
	// services leads from a Port to its chain; loops has the endpoints.
	services, loops *nftables.Set
	proxy           proxyPorts

	mu     sync.Mutex
	now    map[Port]*ruled
	uses   map[netip.Addr]int // of an endpoint, by Services
	chains int                // made so far: names are never used again
}

// ruled is a Service that the kernel knows of.
type ruled struct {
	Service
	chain *nftables.Chain // nil without endpoints
}

// newRules makes the table. It is called in the thread, in whose namespace it is.
func newRules(config Config, gateway netip.Addr) (*rules, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	r := &rules{config: config, gateway: gateway, conn: conn, now: make(map[Port]*ruled), uses: make(map[netip.Addr]int)}
	if err = r.proxy.listen(); err == nil {
		err = r.begin()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nftables: %w", err), r.close())
	}
	return r, nil
}

func (r *rules) close() error {
	r.proxy.close()
	return r.conn.CloseLasting()
}

// begin makes what does not change.
func (r *rules) begin() error {
	r.table = r.conn.AddTable(&nftables.Table{Name: "sampan", Family: nftables.TableFamilyIPv4})
	port := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	r.services = &nftables.Set{Table: r.table, Name: "ports", IsMap: true, Concatenation: true, KeyType: port, DataType: nftables.TypeVerdict}
	pair := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)
	r.loops = &nftables.Set{Table: r.table, Name: "loops", Concatenation: true, KeyType: pair}
	for _, set := range []*nftables.Set{r.services, r.loops} {
		if err := r.conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	hook := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority, rules ...[]expr.Any) {
		chain := r.conn.AddChain(&nftables.Chain{Name: name, Table: r.table, Type: typ, Hooknum: hook, Priority: priority})
		for _, exprs := range rules {
			r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: exprs})
		}
	}
	outside := r.outside()
	hook("translate", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest,
		r.toService(), concat(protocol(TCP), outside, redirect(r.proxy.tcpPort)))
	hook("sent", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, r.toService())
	hook("back", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, r.toItself())
	hook("carry", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle,
		concat(protocol(UDP), outside, carry(r.proxy.udpPort)))
	hook("refuse", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
		concat(to(expr.CmpOpEq, r.config.Services), not(r.config.Names), []expr.Any{
			&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: icmpPortUnreachable}}))
	return r.conn.Flush()
}

const icmpPortUnreachable = 3

// set makes the Services those of the list.
func (r *rules) set(list []Service) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[Port]*ruled, len(list))
	var old []*ruled
	for i := range list {
		s := &list[i]
		if was := r.now[s.At]; was != nil && was.same(s) {
			next[s.At] = was
			continue
		}
		next[s.At] = &ruled{Service: *s}
	}
	for port, was := range r.now {
		if next[port] != was {
			old = append(old, was)
		}
	}
	for _, s := range old {
		r.remove(s)
	}
	for port, s := range next {
		if r.now[port] != s {
			if err := r.add(s); err != nil {
				return err
			}
		}
	}
	if err := r.conn.Flush(); err != nil {
		return err
	}
	r.now = next
	return nil
}

// remove and add write down what the next Flush does. All of that is done, or nothing.
func (r *rules) remove(s *ruled) {
	if s.chain == nil {
		return
	}
	_ = r.conn.SetDeleteElements(r.services, []nftables.SetElement{{Key: portKey(s.At), VerdictData: gotoChain(s.chain)}})
	r.conn.FlushChain(s.chain)
	r.conn.DelChain(s.chain)
	for _, e := range s.Endpoints {
		if r.uses[e.Addr()]--; r.uses[e.Addr()] == 0 {
			delete(r.uses, e.Addr())
			_ = r.conn.SetDeleteElements(r.loops, []nftables.SetElement{{Key: loopKey(e.Addr())}})
		}
	}
}

func (r *rules) add(s *ruled) error {
	if len(s.Endpoints) == 0 {
		return nil
	}
	r.chains++
	s.chain = r.conn.AddChain(&nftables.Chain{Name: "s" + strconv.Itoa(r.chains), Table: r.table})
	exprs := redirect(r.proxy.tcpPort)
	if !r.proxied(&s.Service) {
		var err error
		if exprs, err = r.pick(s); err != nil {
			return err
		}
	}
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: s.chain, Exprs: exprs})
	for _, e := range s.Endpoints {
		if r.uses[e.Addr()]++; r.uses[e.Addr()] == 1 {
			if err := r.conn.SetAddElements(r.loops, []nftables.SetElement{{Key: loopKey(e.Addr())}}); err != nil {
				return err
			}
		}
	}
	return r.conn.SetAddElements(r.services, []nftables.SetElement{{Key: portKey(s.At), VerdictData: gotoChain(s.chain)}})
}

// proxied tells whether the Service is reached through this process: the kernel can only
// lead to pods.
func (r *rules) proxied(s *Service) bool {
	if s.At.Protocol != TCP {
		return false
	}
	for _, e := range s.Endpoints {
		if !r.config.Cluster.Contains(e.Addr()) {
			return true
		}
	}
	return false
}

// endpoints returns those of a Service that is reached through this process.
func (r *rules) endpoints(port Port) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.now[port]
	if s == nil {
		return nil
	}
	return s.Endpoints
}

// pick chooses one of the endpoints, by lot or by who asks.
func (r *rules) pick(s *ruled) ([]expr.Any, error) {
	const register, addressRegister, portRegister = 1, 8, 9 // 1 is 8 and those behind it
	elements := make([]nftables.SetElement, len(s.Endpoints))
	for i, e := range s.Endpoints {
		elements[i] = nftables.SetElement{
			Key: binary.NativeEndian.AppendUint32(nil, uint32(i)),
			Val: append(e.Addr().AsSlice(), byte(e.Port()>>8), byte(e.Port()), 0, 0),
		}
	}
	set := &nftables.Set{
		Table: r.table, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger,
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService),
	}
	if err := r.conn.AddSet(set, elements); err != nil {
		return nil, err
	}
	modulus := uint32(len(s.Endpoints))
	choose := []expr.Any{&expr.Numgen{Register: register, Type: unix.NFT_NG_RANDOM, Modulus: modulus}}
	if s.Sticky {
		choose = []expr.Any{
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: 4},
			&expr.Hash{SourceRegister: register, DestRegister: register, Length: 4, Modulus: modulus, Seed: 1, Type: expr.HashTypeJenkins},
		}
	}
	return append(choose,
		&expr.Lookup{SourceRegister: register, DestRegister: register, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: addressRegister, RegProtoMin: portRegister, Specified: true},
	), nil
}
