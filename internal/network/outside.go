package network

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/share"
)

// outside takes what pods send to the outside of the node there: this process does it in
// their place, with its own sockets in the machine's network. So a pod gets as far as
// a program of this user does, without a right over the machine's network or a change to
// it; but not to what the machine has for itself alone, its loopback addresses.
//
// A connection is accepted before it is known whether the other side accepts it. If that
// does not, it is reset.
type outside struct {
	n    *Network
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	tcp  []net.Listener // one for each family, as the next
	udp  []*net.UDPConn

	mu     sync.Mutex // taken after Network.mu
	places *share.Pool[netip.Addr]
	pods   map[netip.Addr]presence
	flows  map[flowKey]*flow
}

// presence is the time in which a pod has its address. What it does outside ends with it. Whoever has
// two has one part of what there is, by the first.
type presence struct {
	first netip.Addr
	ctx   context.Context
	end   context.CancelFunc
}

const dialTime = 30 * time.Second

// joins returns how many connections and flows this process goes between: each has two sockets, and
// there are those of pods to the outside and those through doors, of which neither has more than a
// quarter of the files.
func joins() int { return share.OfFiles(2, 4, 16384) }

func newOutside(n *Network) *outside {
	ctx, stop := context.WithCancel(context.Background())
	return &outside{
		n: n, ctx: ctx, stop: stop,
		places: share.New[netip.Addr](joins()), pods: make(map[netip.Addr]presence), flows: make(map[flowKey]*flow),
	}
}

// run begins to take what comes to the ports.
func (o *outside) run(ports *proxyPorts) error {
	tcp, err := net.FileListener(ports.tcp)
	if err != nil {
		return err
	}
	o.tcp = append(o.tcp, tcp)
	packets, err := net.FilePacketConn(ports.udp)
	if err != nil {
		return err
	}
	udp := packets.(*net.UDPConn)
	o.udp = append(o.udp, udp)
	o.work.Go(func() { o.accept(tcp) })
	o.work.Go(func() { o.receive(udp) })
	return nil
}

func (o *outside) close() {
	o.stop()
	for _, l := range o.tcp {
		l.Close()
	}
	for _, conn := range o.udp {
		conn.Close()
	}
	o.work.Wait()
}

// join notes that a pod has its addresses now, of which the second may not be valid.
func (o *outside) join(pod, beside netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ctx, end := context.WithCancel(o.ctx)
	o.pods[pod] = presence{pod, ctx, end}
	if beside.IsValid() {
		o.pods[beside] = o.pods[pod]
	}
}

// leave ends all that the pod with the addresses does outside: else others would go on to send to who has
// these next.
func (o *outside) leave(pod, beside netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p, ok := o.pods[pod]; ok {
		p.end()
		delete(o.pods, pod)
		delete(o.pods, beside)
	}
}

// take makes room for one more of a pod until release is called. There is none for an address that no
// pod has: whoever writes packets has as many of those as they like. ctx ends when the pod leaves.
func (o *outside) take(pod netip.Addr) (ctx context.Context, release func(), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.pods[pod]
	if !ok {
		return nil, nil, false
	}
	release, ok = o.places.Take(p.first)
	return p.ctx, release, ok
}

// accept takes connections.
func (o *outside) accept(l net.Listener) {
	for o.ctx.Err() == nil {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors
			o.n.config.Log.Warn("a connection to the outside was not taken", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-o.ctx.Done():
			}
			continue
		}
		o.work.Go(func() { o.carry(conn.(*net.TCPConn)) })
	}
}

// carry goes between a pod and what it has connected to.
func (o *outside) carry(pod *net.TCPConn) {
	defer pod.Close()
	from := addressOf(pod.RemoteAddr())
	ctx, release, ok := o.take(from)
	if !ok {
		reset(pod)
		return
	}
	defer release()
	to, err := wanted(pod)
	if err != nil {
		reset(pod)
		return
	}
	other, err := o.dial(ctx, from, to)
	if err != nil {
		reset(pod)
		return
	}
	join(ctx, pod, other)
}

// join goes between two connections until both have ended, or ctx, and closes them.
func join(ctx context.Context, a, b *net.TCPConn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pass(b, a) })
	pass(a, b)
	both.Wait()
	a.Close()
	b.Close()
}

// reset has the other side see that the connection has failed, instead of its end.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

// dial connects to where a pod wants to go: an endpoint of a Service, or what has the
// address outside.
func (o *outside) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	rules := o.n.of(to.Addr())
	endpoints := rules.endpoints(Port{to.Addr(), to.Port(), TCP})
	if len(endpoints) == 0 {
		if !o.reachable(to.Addr()) {
			return nil, os.ErrPermission
		}
		endpoints = []netip.AddrPort{to}
	}
	endpoints = slices.DeleteFunc(slices.Clone(endpoints), func(e netip.AddrPort) bool { return !o.n.lets(from, e) })
	if len(endpoints) == 0 {
		return nil, os.ErrPermission
	}
	return o.n.dialOne(ctx, endpoints)
}

// dialOne connects to one of the endpoints, of which there is one at least: to a pod from the
// node's namespace, to anything else from the machine's.
func (n *Network) dialOne(ctx context.Context, endpoints []netip.AddrPort) (*net.TCPConn, error) {
	to := endpoints[rand.IntN(len(endpoints))]
	var conn net.Conn
	var err error
	if n.config.IsPod(to.Addr()) {
		conn, err = n.Dial(ctx, to)
	} else {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp", to.String())
	}
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// reachable tells whether pods are taken to an address outside. An address of IPv4 that is written as
// one of IPv6 would be taken for what it stands for, past all that is said of that.
func (o *outside) reachable(ip netip.Addr) bool {
	switch {
	case ip.Is4In6():
		return false
	case ip.Is4() && ip.IsLinkLocalUnicast():
		return true
	}
	return ip.IsGlobalUnicast() && !o.n.config.IsPod(ip) && !o.n.config.IsService(ip)
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
