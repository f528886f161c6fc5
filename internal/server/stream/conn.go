package stream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errClientGone is why a session has ended.
var errClientGone = errors.New("the client is gone")

// newTransport returns a transport that leads to a handler, and nowhere else.
func newTransport(to http.Handler) *http.Transport {
	return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far, err := socketPair()
		if err != nil {
			return nil, err
		}
		// The library takes the connection over, and closes it.
		server := &http.Server{Handler: to, ReadHeaderTimeout: creationTimeout, ErrorLog: log.New(io.Discard, "", 0)}
		server.SetKeepAlivesEnabled(false)
		go func() { _ = server.Serve(&single{conn: far}) }()
		return near, nil
	}}
}

// socketPair returns two connections that lead to each other.
func socketPair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "stream")
		conn, failed := net.FileConn(file) // has a descriptor of its own
		file.Close()
		conns[i], err = conn, errors.Join(err, failed)
	}
	if err != nil {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
		return nil, nil, err
	}
	return conns[0], conns[1], nil
}

// single is a listener that has one connection.
type single struct{ conn net.Conn }

// Accept returns the connection, and after that the end.
func (s *single) Accept() (net.Conn, error) {
	if s.conn == nil {
		return nil, net.ErrClosed
	}
	conn := s.conn
	s.conn = nil
	return conn, nil
}

// Close does nothing: the connection outlives it.
func (s *single) Close() error { return nil }

// Addr returns an address that says nothing.
func (s *single) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// watched is an answer whose connection, once it is taken over, is closed when the
// session ends, and ends the session when the client has gone.
type watched struct {
	http.ResponseWriter
	ctx  context.Context
	gone func()
}

// Unwrap is for http.ResponseController.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(w.ctx, func() { conn.Close() })
	if socket := socketOf(conn); socket != nil {
		go watch(w.ctx, socket, w.gone)
	}
	return conn, buffered, nil
}

// watchEvery is how long a command may run on for a client that has gone.
const watchEvery = time.Second

// watch calls gone when the other end of a TCP connection is closed. Reading would tell,
// too, but nobody reads while the command does not: what was sent before the end is
// still in the way. (What has no room even in the kernel holds the end back, until the
// other kernel gives up.)
func watch(ctx context.Context, socket syscall.RawConn, gone func()) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		open := false
		err := socket.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			open = err == nil && info.State == established
		})
		if err != nil || !open {
			gone()
			return
		}
	}
}

// established is TCP_ESTABLISHED of <netinet/tcp.h>.
const established = 1

// socketOf returns the TCP socket below a connection, nil if there is none.
func socketOf(conn net.Conn) syscall.RawConn {
	for {
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = outer.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
