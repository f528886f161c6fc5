package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sampan-batch/sampan/internal/share"
)

// How much is done at once, if there are the files for it.
const (
	maxAtOnce     = 512 // questions by UDP that are asked elsewhere
	maxClients    = 256 // connections
	clientIdle    = 3 * time.Second
	maxMessage    = 64<<10 - 1
	maxUDPMessage = 4096
)

// Each of them has a socket for a question elsewhere, and a connection one more: a sixteenth of the
// files are for either.
func questions() *share.Pool[netip.Addr] {
	return share.New[netip.Addr](share.OfFiles(1, 16, maxAtOnce))
}
func clients() *share.Pool[netip.Addr] {
	return share.New[netip.Addr](share.OfFiles(2, 16, maxClients))
}

// Server answers questions. The zero value of its zone is one without names.
type Server struct {
	forward *forwarder
	zone    atomic.Pointer[Zone]
}

// NewServer returns a Server that asks who the machine asks, by its resolv.conf, for what
// is not in the zone. resolv is that file.
func NewServer(resolv string) *Server {
	s := &Server{forward: newForwarder(resolv)}
	s.SetZone(NewZone(Cluster{}))
	return s
}

// SetZone has questions answered from z from now on.
func (s *Server) SetZone(z *Zone) { s.zone.Store(z) }

// Serve answers what comes by the sockets, which are its own, until ctx ends.
func (s *Server) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener) {
	s.forward.isAt(udp.LocalAddr(), tcp.Addr())
	stop := context.AfterFunc(ctx, func() { udp.Close(); tcp.Close() })
	defer stop()
	var work sync.WaitGroup
	work.Go(func() { s.packets(ctx, udp) })
	work.Go(func() { s.connections(ctx, tcp) })
	work.Wait()
}

// packets answers questions by UDP.
func (s *Server) packets(ctx context.Context, conn net.PacketConn) {
	var work sync.WaitGroup
	defer work.Wait()
	places := questions()
	buf := make([]byte, maxUDPMessage)
	for ctx.Err() == nil {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // one that lasts is not to take a processor
			continue
		}
		q, ok := parse(buf[:n])
		if !ok {
			continue
		}
		// The cluster's own names wait for nobody.
		if answer := s.zone.Load().answer(&q, q.size); answer != nil {
			_, _ = conn.WriteTo(answer, from)
			continue
		}
		release, ok := places.Take(addressAt(from))
		if !ok {
			continue // lost, as packets may be; the client asks again
		}
		message := append([]byte(nil), buf[:n]...)
		work.Go(func() {
			defer release()
			_, _ = conn.WriteTo(s.elsewhere(ctx, "udp", &q, q.size, message), from)
		})
	}
}

// connections answers questions by TCP.
func (s *Server) connections(ctx context.Context, listener net.Listener) {
	var work sync.WaitGroup
	defer work.Wait()
	places := clients()
	for ctx.Err() == nil {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptor is left
			continue
		}
		release, ok := places.Take(addressAt(conn.RemoteAddr()))
		if !ok {
			conn.Close()
			continue
		}
		work.Go(func() {
			defer release()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			s.converse(ctx, conn)
		})
	}
}

// addressAt is who asks: a pod has one address, however many ports.
func addressAt(client net.Addr) netip.Addr {
	at, _ := netip.ParseAddrPort(client.String())
	return at.Addr().Unmap()
}

// converse answers the questions of a connection, one after the other.
func (s *Server) converse(ctx context.Context, conn net.Conn) {
	for {
		_ = conn.SetDeadline(time.Now().Add(clientIdle))
		message, err := readMessage(conn)
		if err != nil {
			return
		}
		q, ok := parse(message)
		if !ok {
			return
		}
		answer := s.zone.Load().answer(&q, maxMessage)
		if answer == nil {
			answer = s.elsewhere(ctx, "tcp", &q, maxMessage, message)
		}
		_ = conn.SetDeadline(time.Now().Add(clientIdle)) // to ask elsewhere may have taken longer
		if writeMessage(conn, answer) != nil {
			return
		}
	}
}

// readMessage and writeMessage are a message by TCP, in front of which its length stands.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeMessage(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}
