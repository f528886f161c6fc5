package server

import (
	"context"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
)

// inside is the way to the API for clients in its own process: a pair of sockets for each connection.
// It is there also where there is no network at all, not even the machine's own.
type inside struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
	addr   net.Addr // by which the API goes elsewhere
}

func newInside(addr net.Addr) *inside {
	i := &inside{conns: make(chan net.Conn), closed: make(chan struct{}), addr: addr}
	i.close = sync.OnceFunc(func() { close(i.closed) })
	return i
}

// InsideConfig is LoopbackConfig for clients that must not depend on a network.
func (s *Server) InsideConfig() *rest.Config {
	config := s.LoopbackConfig()
	config.Dial = s.inside.dial
	return config
}

func (i *inside) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Addr: i.addr, Err: err}
	}
	select {
	case i.conns <- insideConn{theirs, i.addr}:
		return ours, nil
	case <-i.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	ours.Close()
	theirs.Close()
	return nil, &net.OpError{Op: "dial", Net: "unix", Addr: i.addr, Err: err}
}

// pair returns the ends of a connection.
func pair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]net.Conn
	for n, fd := range fds {
		file := os.NewFile(uintptr(fd), "inside")
		var failed error
		if ends[n], failed = net.FileConn(file); failed != nil {
			err = failed
		}
		file.Close() // it was duplicated
	}
	if err != nil {
		for _, end := range ends {
			if end != nil {
				end.Close()
			}
		}
		return nil, nil, err
	}
	return ends[0], ends[1], nil
}

// Accept implements net.Listener.
func (i *inside) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (i *inside) Close() error {
	i.close()
	return nil
}

// Addr implements net.Listener.
func (i *inside) Addr() net.Addr { return i.addr }

// insideConn comes from an address, as all that the API is asked by does.
type insideConn struct {
	net.Conn
	addr net.Addr
}

func (c insideConn) RemoteAddr() net.Addr { return c.addr }
func (c insideConn) LocalAddr() net.Addr  { return c.addr }
