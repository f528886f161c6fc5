package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// police is what the kernel knows of Policies.
//
//	leave     what a pod sends to the outside, before its target is translated
//	names     what it asks the cluster's names
//	egress    what it sends to pods, by Services or not: their targets are translated by now
//	ingress   what comes to a pod
//
// Each looks the pod up in a map that leads to the chain of its list of rules, which lets packets
// through or drops them; a pod that is not in it is open to all. What belongs to a connection
// that has been let through is not looked at again. What this process sends itself is not passed
// on by the kernel but sent, so that none of these see it: probes, and ports of the machine.
type police struct {
	ingress, egress *nftables.Set
	hosts           *nftables.Set

	now    Policies
	lists  map[string]*nftables.Chain
	groups map[string]*nftables.Set
	made   int // names are never used again
	parts  int // of a message that is being written
	broken bool
}

// hooker makes a chain that packets come to by themselves.
type hooker func(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority, rules ...[]expr.Any)

// beginPolice makes what does not change.
func (r *rules) beginPolice(hook hooker) error {
	p := &r.policies
	p.lists, p.groups = make(map[string]*nftables.Chain), make(map[string]*nftables.Set)
	p.ingress = &nftables.Set{Table: r.table, Name: "ingress", IsMap: true, KeyType: r.address, DataType: nftables.TypeVerdict}
	p.egress = &nftables.Set{Table: r.table, Name: "egress", IsMap: true, KeyType: r.address, DataType: nftables.TypeVerdict}
	p.hosts = &nftables.Set{Table: r.table, Name: "hosts", KeyType: r.address}
	for _, set := range []*nftables.Set{p.ingress, p.egress, p.hosts} {
		if err := r.addSet(set, nil); err != nil {
			return err
		}
	}
	known, itself := concat(established(), accept()), concat(r.fromItself(), accept())
	sent, received := r.lead(r.source, p.egress), r.lead(r.target, p.ingress)
	before, filter := nftables.ChainPriorityRef(*nftables.ChainPriorityMangle-1), *nftables.ChainPriorityFilter
	hook("leave", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, before, known, concat(r.outside(), sent))
	if r.name.IsValid() {
		hook("names", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityRef(filter-1),
			known, concat(r.to(expr.CmpOpEq, netip.PrefixFrom(r.name, r.name.BitLen())), sent))
	}
	hook("egress", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityRef(filter), known, itself, sent)
	hook("ingress", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityRef(filter+1),
		known, itself, concat(r.member(r.source, p.hosts), accept()), concat(r.fromMachine(), accept()), received)
	return nil
}

// police makes the policies these. Where they are many, groups come first, then lists; pods are
// led to these at once. If the kernel refuses something on the way, nothing is known of what it
// has, and all is begun anew by whoever comes next.
func (r *rules) police(next *Policies) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.policies
	if p.broken {
		if err := r.forget(); err != nil {
			return err
		}
	}
	p.broken = true
	defer func() { p.broken = err != nil }()
	groups, err := r.regroup(next.Groups)
	if err != nil {
		return err
	}
	lists := make(map[string]*nftables.Chain, len(next.Lists))
	for name, list := range next.Lists {
		if lists[name] = p.lists[name]; lists[name] == nil || !reflect.DeepEqual(p.now.Lists[name], list) {
			if lists[name], err = r.newList(list, groups); err != nil {
				return err
			}
		}
	}
	if err := r.commit(); err != nil {
		return err
	}
	if err := r.relead(p.ingress, p.now.Ingress, next.Ingress, lists); err != nil {
		return err
	}
	if err := r.relead(p.egress, p.now.Egress, next.Egress, lists); err != nil {
		return err
	}
	if err := r.replace(p.hosts, p.now.Hosts, next.Hosts); err != nil {
		return err
	}
	for name, old := range p.lists {
		if lists[name] != old {
			r.conn.FlushChain(old)
			r.conn.DelChain(old)
			if err := r.sometimes(4); err != nil {
				return err
			}
		}
	}
	for name, old := range p.groups {
		if groups[name] == nil {
			r.conn.DelSet(old)
			if err := r.sometimes(2); err != nil {
				return err
			}
		}
	}
	if err := r.commit(); err != nil {
		return err
	}
	p.now, p.lists, p.groups = *next, lists, groups
	return nil
}

// forget has all pods open to all again, and takes what there is of lists and groups.
func (r *rules) forget() error {
	p := &r.policies
	for _, set := range []*nftables.Set{p.ingress, p.egress, p.hosts} {
		r.conn.FlushSet(set)
	}
	if err := r.commit(); err != nil {
		return err
	}
	// Names are never used again, so that what stays behind is in nobody's way.
	p.now, p.lists, p.groups = Policies{}, make(map[string]*nftables.Chain), make(map[string]*nftables.Set)
	return nil
}

// regroup writes down what makes the groups those that come next, and returns their sets.
func (r *rules) regroup(next map[string][]netip.Addr) (map[string]*nftables.Set, error) {
	p := &r.policies
	groups := make(map[string]*nftables.Set, len(next))
	for name, addresses := range next {
		set := p.groups[name]
		if set == nil {
			p.made++
			set = &nftables.Set{Table: r.table, Name: "g" + strconv.Itoa(p.made), KeyType: r.address}
			if err := r.addSet(set, nil); err != nil {
				return nil, err
			}
		}
		if err := r.replace(set, p.now.Groups[name], addresses); err != nil {
			return nil, err
		}
		groups[name] = set
	}
	return groups, nil
}

// replace writes down what makes the members of a set others.
func (r *rules) replace(set *nftables.Set, old, next []netip.Addr) error {
	had, has := make(map[netip.Addr]bool, len(old)), make(map[netip.Addr]bool, len(next))
	for _, a := range old {
		had[a] = true
	}
	var gone, come []nftables.SetElement
	for _, a := range next {
		if !had[a] && !has[a] {
			come = append(come, nftables.SetElement{Key: a.AsSlice()})
		}
		has[a] = true
	}
	for a := range had {
		if !has[a] {
			gone = append(gone, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	return r.change(set, gone, come)
}

// relead writes down what has pods led to the chains of their lists.
func (r *rules) relead(set *nftables.Set, old, next map[netip.Addr]string, lists map[string]*nftables.Chain) error {
	var gone, come []nftables.SetElement
	same := func(a netip.Addr) bool {
		was, had := old[a]
		is, has := next[a]
		return had && has && was == is && r.policies.lists[was] == lists[is]
	}
	for a, name := range old {
		if !same(a) {
			gone = append(gone, nftables.SetElement{Key: a.AsSlice(), VerdictData: gotoChain(r.policies.lists[name])})
		}
	}
	for a, name := range next {
		if !same(a) {
			come = append(come, nftables.SetElement{Key: a.AsSlice(), VerdictData: gotoChain(lists[name])})
		}
	}
	return r.change(set, gone, come)
}

// change writes down that elements go, and others come: as many at a time as fit into a message.
func (r *rules) change(set *nftables.Set, gone, come []nftables.SetElement) error {
	const most = 500
	for part := range slices.Chunk(gone, most) {
		if err := r.conn.SetDeleteElements(set, part); err != nil {
			return err
		}
		if err := r.sometimes(len(part)); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(come, most) {
		if err := r.conn.SetAddElements(set, part); err != nil {
			return err
		}
		if err := r.sometimes(len(part)); err != nil {
			return err
		}
	}
	return nil
}

// sometimes sends what is written down when it is much.
func (r *rules) sometimes(parts int) error {
	const most = 2000
	if r.policies.parts += parts; r.policies.parts < most {
		return nil
	}
	r.policies.parts = 0
	return r.commit()
}

// newList writes down a chain that lets through what one of the rules does, and drops the rest.
// Both directions have the port in the same place, that of the target; who the other side is is
// in another one.
func (r *rules) newList(list []Rule, groups map[string]*nftables.Set) (*nftables.Chain, error) {
	r.policies.made++
	chain := r.conn.AddChain(&nftables.Chain{Name: "p" + strconv.Itoa(r.policies.made), Table: r.table})
	for i := range list {
		rule := &list[i]
		other := r.target
		if rule.Ingress {
			other = r.source
		}
		var exprs []expr.Any
		switch {
		case rule.Group != "":
			exprs = r.member(other, groups[rule.Group])
		case rule.Block.IsValid():
			exprs = r.within(other, expr.CmpOpEq, rule.Block)
			for _, except := range rule.Except {
				exprs = append(exprs, r.within(other, expr.CmpOpNeq, except)...)
			}
		}
		if rule.Protocol != 0 {
			exprs = append(exprs, protocol(rule.Protocol)...)
		}
		if rule.Last != 0 {
			exprs = append(exprs, ports(rule.First, rule.Last)...)
		}
		r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: append(exprs, accept()...)})
		if err := r.sometimes(8 + 4*len(rule.Except)); err != nil {
			return nil, err
		}
	}
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
	return chain, r.sometimes(4)
}

// lets tells whether a pod may reach an address that this process reaches in its place.
func (r *rules) lets(pod netip.Addr, to netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.policies.now
	return p.allows(p.Egress, pod, to.Addr(), TCP, to.Port())
}

// admits tells whether a pod may be reached from an address outside.
func (r *rules) admits(from netip.Addr, pod netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.policies.now
	return p.allows(p.Ingress, pod.Addr(), from, TCP, pod.Port())
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// established goes on with packets of connections that there are.
func established() []expr.Any {
	mask := expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// fromItself goes on with packets from an endpoint to itself.
func (r *rules) fromItself() []expr.Any {
	const source = 8
	return []expr.Any{r.load(source, r.source), r.load(source+r.words(), r.target), &expr.Lookup{SourceRegister: 1, SetName: r.loops.Name, SetID: r.loops.ID}}
}

// load loads the address at offset.
func (f *family) load(register, offset uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}
}

// lead goes on in the chain that a map has for the address at offset, if it has one.
func (f *family) lead(offset uint32, by *nftables.Set) []expr.Any {
	return []expr.Any{f.load(1, offset), &expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: by.Name, SetID: by.ID}}
}

// member goes on with packets whose address at offset is in a set.
func (f *family) member(offset uint32, set *nftables.Set) []expr.Any {
	return []expr.Any{f.load(1, offset), &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}}
}

// within goes on with packets whose address at offset is, or is not, in the range.
func (f *family) within(offset uint32, op expr.CmpOp, in netip.Prefix) []expr.Any {
	return []expr.Any{
		f.load(1, offset),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.size, Mask: mask(in), Xor: make([]byte, f.size)},
		&expr.Cmp{Op: op, Register: 1, Data: in.Masked().Addr().AsSlice()},
	}
}

// mask has the bits set that addresses of a range have in common.
func mask(in netip.Prefix) []byte { return net.CIDRMask(in.Bits(), in.Addr().BitLen()) }

// ports goes on with packets to one of the ports.
func ports(first, last uint16) []expr.Any {
	big := func(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: big(first)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: big(last)},
	}
}
