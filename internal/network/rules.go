package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rules are the translations of addresses in the node's namespace: an nftables table.
//
//	translate   to a port of a Service: one of its endpoints instead; to the outside: this
//	            process instead
//	sent        the same for what this process sends
//	back        a pod that has got itself for an endpoint answers to the gateway, else its
//	            answer would never come back here; so do those that the machine sends to
//	carry       UDP to the outside: this process, as it is
//	refuse      a port of a Service that has nobody who answers
//
// That of IPv6 has one more, first of all; see strangers.go.
type rules struct {
	side
	conn  *nftables.Conn
	link  *netlink.Conn // below conn
	table *nftables.Table
	// services leads from a Port to its chain; loops has the endpoints; led has those of UDP that have
	// an address outside, which nobody is to carry there.
	services, loops, led *nftables.Set
	proxy                proxyPorts

	mu     sync.Mutex
	now    map[Port]*ruled
	uses   map[netip.Addr]int // of an endpoint, by Services
	chains int                // made so far: names are never used again
	sets   uint32

	policies police
}

// ruled is a Service that the kernel knows of.
type ruled struct {
	Service
	chain *nftables.Chain // nil without endpoints
}

// newRules makes the table. It is called in the thread, in whose namespace it is.
func newRules(s side) (*rules, error) {
	// What is done at once is one message to the kernel, and there is an answer to each part. An
	// ordinary user's may be no longer than net.core.wmem_max lets them.
	const most = 64 << 20
	var link *netlink.Conn
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		link = c
		// A refusal does not bring back all that is refused.
		return errors.Join(c.SetWriteBuffer(most), c.SetReadBuffer(most), c.SetOption(netlink.CapAcknowledge, true))
	}))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	r := &rules{side: s, conn: conn, link: link, now: make(map[Port]*ruled), uses: make(map[netip.Addr]int)}
	if err = r.proxy.listen(r.family); err == nil {
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
	r.table = r.conn.AddTable(&nftables.Table{Name: "sampan", Family: r.family.table})
	port := nftables.MustConcatSetType(r.address, nftables.TypeInetProto, nftables.TypeInetService)
	r.services = &nftables.Set{Table: r.table, Name: "ports", IsMap: true, Concatenation: true, KeyType: port, DataType: nftables.TypeVerdict}
	pair := nftables.MustConcatSetType(r.address, r.address)
	r.loops = &nftables.Set{Table: r.table, Name: "loops", Concatenation: true, KeyType: pair}
	r.led = &nftables.Set{Table: r.table, Name: "led", Concatenation: true, KeyType: port}
	for _, set := range []*nftables.Set{r.services, r.loops, r.led} {
		if err := r.addSet(set, nil); err != nil {
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
		r.toService(), concat(protocol(TCP), outside, r.redirect(r.proxy.tcpPort)))
	hook("sent", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, r.toService())
	hook("back", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
		r.toItself(), concat(r.fromMachine(), r.asGateway()))
	hook("carry", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle,
		concat(protocol(UDP), outside, r.notLed(), r.carry(r.proxy.udpPort)))
	hook("refuse", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
		concat(r.to(expr.CmpOpEq, r.serviceRange), r.notNames(), []expr.Any{
			&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: r.unreachable}}))
	if r.six {
		r.strangers(hook)
	}
	if err := r.beginPolice(hook); err != nil {
		return err
	}
	return r.conn.Flush()
}

// notNames goes on with packets to anyone but the one who is asked for names.
func (r *rules) notNames() []expr.Any {
	if !r.name.IsValid() {
		return nil
	}
	return r.not(r.name)
}

// A message to the kernel is no longer than what any socket takes, by default 208 KiB, and so are the
// answers, one to each part of it. What a Service takes, and each of its endpoints, is estimated.
const (
	maxMessage    = 128 << 10
	costOfService = 4 << 10
	costOfOne     = 128
	// maxEndpoints is how many a port can have: the list of them is one attribute, of 64 KiB.
	maxEndpoints = 1000
)

// set makes the Services those of the list, as many at a time as the kernel takes. One that it does
// not take is nowhere, and holds up no other; the error tells which.
func (r *rules) set(list []Service) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var part []ruling
	var errs []error
	cost := 0
	next := make(map[Port]bool, len(list))
	write := func(c ruling) {
		own := costOfService
		if c.next != nil {
			own += costOfOne * len(c.next.Endpoints)
		}
		if len(part) > 0 && cost+own > maxMessage {
			errs = append(errs, r.write(part))
			part, cost = part[:0], 0
		}
		part, cost = append(part, c), cost+own
	}
	for i := range list {
		s := &list[i]
		if len(s.Endpoints) > maxEndpoints {
			errs = append(errs, fmt.Errorf("%s: %d endpoints are more than %d", s.At, len(s.Endpoints), maxEndpoints))
			continue
		}
		next[s.At] = true
		if was := r.now[s.At]; was == nil || !was.same(s) {
			write(ruling{s.At, was, &ruled{Service: *s}})
		}
	}
	for at, was := range r.now {
		if !next[at] {
			write(ruling{at, was, nil})
		}
	}
	if len(part) > 0 {
		errs = append(errs, r.write(part))
	}
	return errors.Join(errs...)
}

// ruling is what becomes of a Service: nil is none.
type ruling struct {
	at        Port
	was, next *ruled
}

// write does all of it at once, or, if the kernel takes offence at something, each by itself.
func (r *rules) write(part []ruling) error {
	err := r.flush(part)
	if err == nil || len(part) == 1 {
		return err
	}
	var errs []error
	for i := range part {
		errs = append(errs, r.flush(part[i:i+1]))
	}
	return errors.Join(errs...)
}

// flush does all of it, or nothing.
func (r *rules) flush(part []ruling) error {
	for _, c := range part {
		if c.was != nil {
			r.remove(c.was)
		}
	}
	var err error
	for _, c := range part {
		if c.next != nil && err == nil {
			err = r.add(c.next)
		}
	}
	if err = errors.Join(err, r.commit()); err != nil {
		r.recount()
		return fmt.Errorf("%s: %w", part[0].at, err)
	}
	for _, c := range part {
		if c.next == nil {
			delete(r.now, c.at)
		} else {
			r.now[c.at] = c.next
		}
	}
	return nil
}

// commitTime is how long the kernel's answers are waited for. Some of them are lost when they are many and
// nobody takes them in time.
const commitTime = 10 * time.Second

// commit has the kernel do what has been written down.
func (r *rules) commit() error {
	if err := r.link.SetReadDeadline(time.Now().Add(commitTime)); err != nil {
		return err
	}
	defer func() { _ = r.link.SetReadDeadline(time.Time{}) }()
	err := r.conn.Flush()
	if err == nil {
		return nil
	}
	// Answers to this are not those to the next.
	if err := r.link.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	for {
		if _, left := r.link.Receive(); errors.Is(left, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// recount has uses say again what the kernel knows of.
func (r *rules) recount() {
	clear(r.uses)
	for _, s := range r.now {
		for _, e := range s.Endpoints {
			r.uses[e.Addr()]++
		}
	}
}

// remove and add write down what the next Flush does. All of that is done, or nothing.
func (r *rules) remove(s *ruled) {
	if s.chain == nil {
		return
	}
	_ = r.conn.SetDeleteElements(r.services, []nftables.SetElement{{Key: portKey(s.At), VerdictData: gotoChain(s.chain)}})
	if r.ledIn(s.At) {
		_ = r.conn.SetDeleteElements(r.led, []nftables.SetElement{{Key: portKey(s.At)}})
	}
	r.conn.FlushChain(s.chain)
	r.conn.DelChain(s.chain)
	var gone []nftables.SetElement
	for _, e := range s.Endpoints {
		if r.uses[e.Addr()]--; r.uses[e.Addr()] == 0 {
			delete(r.uses, e.Addr())
			gone = append(gone, nftables.SetElement{Key: loopKey(e.Addr())})
		}
	}
	if len(gone) > 0 {
		_ = r.conn.SetDeleteElements(r.loops, gone)
	}
}

func (r *rules) add(s *ruled) error {
	if len(s.Endpoints) == 0 {
		return nil
	}
	r.chains++
	s.chain = r.conn.AddChain(&nftables.Chain{Name: "s" + strconv.Itoa(r.chains), Table: r.table})
	pods, others := r.split(&s.Service)
	if len(others) > 0 { // by this process, as often as it is one of them
		exprs := append(r.choose(&s.Service, len(s.Endpoints)),
			&expr.Byteorder{SourceRegister: chosen, DestRegister: chosen, Op: expr.ByteorderHton, Len: 4, Size: 4}, // as numbers are compared
			&expr.Cmp{Op: expr.CmpOpLt, Register: chosen, Data: binary.BigEndian.AppendUint32(nil, uint32(len(others)))})
		if len(pods) == 0 {
			exprs = nil
		}
		r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: s.chain, Exprs: append(exprs, r.redirect(r.proxy.tcpPort)...)})
	}
	if len(pods) > 0 {
		exprs, err := r.pick(&s.Service, pods)
		if err != nil {
			return err
		}
		r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: s.chain, Exprs: exprs})
	}
	var fresh []nftables.SetElement
	for _, e := range s.Endpoints {
		if r.uses[e.Addr()]++; r.uses[e.Addr()] == 1 {
			fresh = append(fresh, nftables.SetElement{Key: loopKey(e.Addr())})
		}
	}
	if len(fresh) > 0 {
		if err := r.conn.SetAddElements(r.loops, fresh); err != nil {
			return err
		}
	}
	if r.ledIn(s.At) {
		if err := r.conn.SetAddElements(r.led, []nftables.SetElement{{Key: portKey(s.At)}}); err != nil {
			return err
		}
	}
	return r.conn.SetAddElements(r.services, []nftables.SetElement{{Key: portKey(s.At), VerdictData: gotoChain(s.chain)}})
}

// ledIn tells whether packets to a Service would be carried outside if nobody knew that they are for it.
func (r *rules) ledIn(at Port) bool {
	return at.Protocol == UDP && !r.cluster.Contains(at.Address) && !r.serviceRange.Contains(at.Address)
}

// split tells who of the endpoints is reached through this process: the kernel can only lead to
// pods.
func (r *rules) split(s *Service) (pods, others []netip.AddrPort) {
	if s.At.Protocol != TCP {
		return s.Endpoints, nil
	}
	for _, e := range s.Endpoints {
		if r.cluster.Contains(e.Addr()) {
			pods = append(pods, e)
		} else {
			others = append(others, e)
		}
	}
	return pods, others
}

// endpoints returns those of a Service that are reached through this process.
func (r *rules) endpoints(port Port) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.now[port]
	if s == nil {
		return nil
	}
	_, others := r.split(&s.Service)
	return others
}

// addSet writes down a set. The library would number sets in common for all networks of this
// process, whose calls may come at the same time.
func (r *rules) addSet(set *nftables.Set, elements []nftables.SetElement) error {
	r.sets++
	set.ID = r.sets
	switch {
	case set.Anonymous && set.IsMap:
		set.Name = "__map%d"
	case set.Anonymous:
		set.Name = "__set%d"
	}
	return r.conn.AddSet(set, elements)
}

// chosen is the register in which choose leaves a number below n: one by lot, or by who asks.
const chosen = 1

func (f *family) choose(s *Service, n int) []expr.Any {
	if !s.Sticky {
		return []expr.Any{&expr.Numgen{Register: chosen, Type: unix.NFT_NG_RANDOM, Modulus: uint32(n)}}
	}
	return []expr.Any{
		f.load(chosen, f.source),
		&expr.Hash{SourceRegister: chosen, DestRegister: chosen, Length: f.size, Modulus: uint32(n), Seed: 1, Type: expr.HashTypeJenkins},
	}
}

// pick goes to one of the endpoints.
func (r *rules) pick(s *Service, endpoints []netip.AddrPort) ([]expr.Any, error) {
	const addressRegister = 8 // chosen is 8 and those behind it
	portRegister := addressRegister + r.words()
	elements := make([]nftables.SetElement, len(endpoints))
	for i, e := range endpoints {
		elements[i] = nftables.SetElement{
			Key: binary.NativeEndian.AppendUint32(nil, uint32(i)),
			Val: append(e.Addr().AsSlice(), byte(e.Port()>>8), byte(e.Port()), 0, 0),
		}
	}
	set := &nftables.Set{
		Table: r.table, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger,
		DataType: nftables.MustConcatSetType(r.address, nftables.TypeInetService),
	}
	if err := r.addSet(set, elements); err != nil {
		return nil, err
	}
	return append(r.choose(s, len(endpoints)),
		&expr.Lookup{SourceRegister: chosen, DestRegister: chosen, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: r.number, RegAddrMin: addressRegister, RegProtoMin: portRegister, Specified: true},
	), nil
}
