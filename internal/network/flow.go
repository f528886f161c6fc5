package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// flowKey is who sends packets to whom.
type flowKey struct{ pod, to netip.AddrPort }

// flow is the packets that a pod exchanges with something outside.
type flow struct {
	flowKey
	out  *net.UDPConn // to the outside
	back *net.UDPConn // to the pod, as if from there
}

const flowIdle = 60 * time.Second

// receive takes the packets of which a flow begins; for those that follow, the kernel finds the
// flow's own socket.
func (o *outside) receive(udp *net.UDPConn) {
	packet, control := make([]byte, maxPacket), make([]byte, 256)
	for o.ctx.Err() == nil {
		n, m, _, from, err := udp.ReadMsgUDPAddrPort(packet, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one packet: an error that came back
		}
		to, ok := targetOf(control[:m])
		if !ok || !o.reachable(to.Addr()) {
			continue
		}
		if f := o.flow(flowKey{unmapped(from), to}); f != nil {
			_, _ = f.out.Write(packet[:n])
		}
	}
}

// flow returns the flow of a packet, nil if there can be none. It is called by the receive of its family alone.
func (o *outside) flow(key flowKey) *flow {
	o.mu.Lock()
	f := o.flows[key]
	o.mu.Unlock()
	if f != nil {
		return f
	}
	ctx, release, ok := o.take(key.pod.Addr())
	if !ok {
		return nil
	}
	f = &flow{flowKey: key}
	if err := o.openFlow(f); err != nil {
		release()
		return nil
	}
	o.mu.Lock()
	o.flows[key] = f
	o.mu.Unlock()
	o.work.Go(func() {
		defer release()
		defer context.AfterFunc(ctx, f.close)()
		f.run(o)
	})
	return f
}

// openFlow opens the sockets of a flow.
func (o *outside) openFlow(f *flow) error {
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(f.to))
	if err != nil {
		return err
	}
	var fd int
	o.n.thread.do(func() {
		if fd, err = bound(unix.SOCK_DGRAM, f.to, familyOf(f.to.Addr()).transparent); err == nil {
			if err = os.NewSyscallError("connect", unix.Connect(fd, sockaddr(f.pod))); err != nil {
				_ = unix.Close(fd)
			}
		}
	})
	if err != nil {
		out.Close()
		return err
	}
	file := os.NewFile(uintptr(fd), "flow")
	defer file.Close()
	back, err := net.FileConn(file)
	if err != nil {
		out.Close()
		return err
	}
	f.out, f.back = out, back.(*net.UDPConn)
	return nil
}

// run exchanges the packets, until none has come or gone for a while.
func (f *flow) run(o *outside) {
	f.rest()
	o.work.Go(func() { f.pass(f.out, f.back) })
	f.pass(f.back, f.out)
	o.mu.Lock()
	delete(o.flows, f.flowKey)
	o.mu.Unlock()
	f.close()
}

// rest has the flow end in a while.
func (f *flow) rest() {
	end := time.Now().Add(flowIdle)
	_ = f.out.SetReadDeadline(end)
	_ = f.back.SetReadDeadline(end)
}

// pass copies the packets that come from one side to the other.
func (f *flow) pass(to, from *net.UDPConn) {
	w, err := newWay(to, from)
	if err != nil {
		return
	}
	for {
		err := w.packet()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err == nil { // else what was sent before came to nobody
			f.rest()
		}
	}
}

func (f *flow) close() {
	f.out.Close()
	f.back.Close()
}
