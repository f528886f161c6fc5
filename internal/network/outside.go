package network

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
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
	tcp  net.Listener
	udp  *net.UDPConn

	mu    sync.Mutex
	open  int
	of    map[netip.Addr]int // by pod
	flows map[flowKey]*flow
}

// How many connections and flows to the outside there may be, and how many of one pod.
const (
	maxOutside      = 16384
	maxOutsideOfOne = 4096
	dialTime        = 30 * time.Second
)

func newOutside(n *Network) *outside {
	ctx, stop := context.WithCancel(context.Background())
	return &outside{
		n: n, ctx: ctx, stop: stop,
		of: make(map[netip.Addr]int), flows: make(map[flowKey]*flow),
	}
}

// run begins.
func (o *outside) run(ports *proxyPorts) error {
	var err error
	if o.tcp, err = net.FileListener(ports.tcp); err != nil {
		return err
	}
	udp, err := net.FilePacketConn(ports.udp)
	if err != nil {
		return err
	}
	o.udp = udp.(*net.UDPConn)
	o.work.Go(o.accept)
	o.work.Go(o.receive)
	return nil
}

func (o *outside) close() {
	o.stop()
	if o.tcp != nil {
		o.tcp.Close()
	}
	if o.udp != nil {
		o.udp.Close()
	}
	o.mu.Lock()
	for _, f := range o.flows {
		f.close()
	}
	o.mu.Unlock()
	o.work.Wait()
}

// take makes room for one more of a pod until release is called.
func (o *outside) take(pod netip.Addr) (release func(), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open >= maxOutside || o.of[pod] >= maxOutsideOfOne {
		return nil, false
	}
	o.open++
	o.of[pod]++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.open--
		if o.of[pod]--; o.of[pod] == 0 {
			delete(o.of, pod)
		}
	}, true
}

// accept takes connections.
func (o *outside) accept() {
	for o.ctx.Err() == nil {
		conn, err := o.tcp.Accept()
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
	release, ok := o.take(from)
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
	other, err := o.dial(from, to)
	if err != nil {
		reset(pod)
		return
	}
	join(o.ctx, pod, other)
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

// pass copies all that comes from one side to the other, and its end.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}
	_ = to.CloseWrite()
}

// reset has the other side see that the connection has failed, instead of its end.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

// dial connects to where a pod wants to go: an endpoint of a Service, or what has the
// address outside.
func (o *outside) dial(from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(o.ctx, dialTime)
	defer cancel()
	endpoints := o.n.rules.endpoints(Port{to.Addr(), to.Port(), TCP})
	if len(endpoints) == 0 {
		if !o.reachable(to.Addr()) {
			return nil, os.ErrPermission
		}
		endpoints = []netip.AddrPort{to}
	}
	endpoints = slices.DeleteFunc(slices.Clone(endpoints), func(e netip.AddrPort) bool { return !o.n.rules.lets(from, e) })
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
	if n.config.Cluster.Contains(to.Addr()) {
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

// reachable tells whether pods are taken to an address outside.
func (o *outside) reachable(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() && !o.n.config.Cluster.Contains(ip) && !o.n.config.Services.Contains(ip) || ip.IsLinkLocalUnicast()
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
