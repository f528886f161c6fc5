package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// packets are the UDP packets that come to a port of the machine, and the answers. Whoever sends
// some is led to one endpoint, and stays there until nothing has come or gone for a while or the
// endpoint is none any more.
type packets struct {
	door *door
	conn *net.UDPConn // at the machine's port

	mu     sync.Mutex
	guests map[guestKey]*guest
	closed bool
}

// guestKey is who sends packets, and to which of the machine's addresses: answers come from there.
type guestKey struct {
	client netip.AddrPort
	local  netip.Addr
}

// guest is one who sends packets.
type guest struct {
	guestKey
	to    netip.AddrPort
	inner *net.UDPConn // to the endpoint
}

// newPackets takes the port.
func newPackets(d *door) (*packets, error) {
	family := familyOf(d.at.Address)
	conn, err := net.ListenUDP(family.network("udp"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.at.Address, d.at.Port)))
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) {
			failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), family.level, family.pktInfo, 1))
		})
		err = errors.Join(err, failed)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &packets{door: d, conn: conn, guests: make(map[guestKey]*guest)}, nil
}

// close ends all of it.
func (p *packets) close() {
	p.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, g := range p.guests {
		g.inner.Close()
	}
}

// keep has those begin anew whose endpoint is not among these.
func (p *packets) keep(endpoints []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.guests {
		if !slices.Contains(endpoints, g.to) {
			g.inner.Close()
		}
	}
}

// receive passes on what clients send.
func (d *door) receive(ctx context.Context) {
	p := d.packets
	packet, control := make([]byte, maxPacket), make([]byte, 256)
	for ctx.Err() == nil {
		n, m, _, from, err := p.conn.ReadMsgUDPAddrPort(packet, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one packet: an error that came back
		}
		local, ok := receivedAt(control[:m])
		if !ok {
			continue
		}
		if g := p.guest(ctx, guestKey{unmapped(from), local}); g != nil {
			g.rest()
			_, _ = g.inner.Write(packet[:n])
		}
	}
}

// guest returns who has sent a packet, nil if it is led nowhere. It is called by receive alone.
func (p *packets) guest(ctx context.Context, key guestKey) *guest {
	p.mu.Lock()
	g := p.guests[key]
	p.mu.Unlock()
	if g != nil {
		return g
	}
	d := p.door
	to, ok := d.choose(key.client.Addr(), key.client.Addr() == key.local)
	if !ok {
		return nil
	}
	release, ok := d.n.doors.places.Take(d.at)
	if !ok {
		return nil
	}
	inner, err := d.n.dialPackets(ctx, to)
	if err != nil {
		release()
		return nil
	}
	g = &guest{guestKey: key, to: to, inner: inner}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		inner.Close()
		release()
		return nil
	}
	p.guests[key] = g
	g.rest()
	d.work.Go(func() {
		defer release()
		p.answer(g)
	})
	return g
}

// answer passes on what an endpoint answers, until none has come or gone for a while.
func (p *packets) answer(g *guest) {
	defer func() {
		g.inner.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.guests, g.guestKey)
	}()
	w, err := newWay(p.conn, g.inner)
	if err != nil {
		return
	}
	from := sentFrom(g.local)
	for w.answer(from, g.client) == nil {
		g.rest()
	}
}

// sentFrom has a packet sent from an address of the machine.
func sentFrom(local netip.Addr) []byte {
	if local.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16()})
}

// answer passes on one packet to where it belongs, from where it was asked for.
func (w way) answer(from []byte, to netip.AddrPort) error {
	var l loan
	defer l.back()
	n, err := w.receive(&l, 0)
	if err != nil {
		return err
	}
	at := sockaddr(to)
	_ = w.to.Write(func(fd uintptr) bool {
		_ = unix.Sendmsg(int(fd), l.buffer[:n], from, at, unix.MSG_DONTWAIT) // lost if it is not taken, as packets may be
		return true
	})
	return nil
}

// rest has the guest go in a while.
func (g *guest) rest() { _ = g.inner.SetReadDeadline(time.Now().Add(flowIdle)) }

// dialPackets connects to where packets go: a pod from the node's namespace, anything else from the
// machine's.
func (n *Network) dialPackets(ctx context.Context, to netip.AddrPort) (*net.UDPConn, error) {
	if !n.config.IsPod(to.Addr()) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "udp", to.String())
		if err != nil {
			return nil, err
		}
		return conn.(*net.UDPConn), nil
	}
	var fd int
	var err error
	n.thread.do(func() { fd, err = n.connect(n.node, unix.SOCK_DGRAM, to) })
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "packets")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// receivedAt returns the address that a packet was sent to, from what came with it.
func receivedAt(control []byte) (netip.Addr, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}, false
	}
	for i := range messages {
		h := &messages[i]
		if h.Header.Level == unix.SOL_IP && h.Header.Type == unix.IP_PKTINFO && len(h.Data) >= unix.SizeofInet4Pktinfo {
			// ipi_ifindex, ipi_spec_dst, ipi_addr: the second is the one to answer from.
			return netip.AddrFrom4([4]byte(h.Data[4:8])), true
		}
		if h.Header.Level == unix.SOL_IPV6 && h.Header.Type == unix.IPV6_PKTINFO && len(h.Data) >= unix.SizeofInet6Pktinfo {
			return netip.AddrFrom16([16]byte(h.Data[:16])), true
		}
	}
	return netip.Addr{}, false
}
