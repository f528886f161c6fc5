package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to a TCP port from the node's namespace, as one pod does to another.
func (n *Network) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return n.dial(ctx, n.node, to)
}

// DialPod connects to a TCP port of a pod: as others do if outside, else as its own processes
// do, by "localhost".
func (n *Network) DialPod(ctx context.Context, uid string, port uint16, outside bool) (net.Conn, error) {
	n.mu.Lock()
	s := n.pods[uid]
	n.mu.Unlock()
	switch {
	case s == nil:
		return nil, ErrNotFound
	case outside:
		return n.Dial(ctx, netip.AddrPortFrom(s.address, port))
	}
	return n.dialInside(ctx, s.ns, port)
}

func (n *Network) dialInside(ctx context.Context, ns int, port uint16) (net.Conn, error) {
	var errs []error
	for _, ip := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		conn, err := n.dial(ctx, ns, netip.AddrPortFrom(ip, port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("failed to connect to localhost:%d inside the namespace of the pod: %w", port, errors.Join(errs...))
}

func (n *Network) dial(ctx context.Context, ns int, to netip.AddrPort) (net.Conn, error) {
	var fd int
	var err error
	n.thread.do(func() { fd, err = n.connect(ns, unix.SOCK_STREAM, to) })
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	file := os.NewFile(uintptr(fd), "connection")
	defer file.Close()
	if err := connected(ctx, file); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return net.FileConn(file)
}

// connect begins to connect to an address from a namespace. It is called in the thread.
func (n *Network) connect(ns, kind int, to netip.AddrPort) (fd int, err error) {
	if ns != n.node {
		if err := enter(ns); err != nil {
			return -1, err
		}
		defer n.back()
	}
	if fd, err = unix.Socket(familyOf(to.Addr()).socket, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err = unix.Connect(fd, sockaddr(to)); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// connected returns when a socket that connects is connected.
func connected(ctx context.Context, file *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = file.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	first := true
	err = raw.Write(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = err
		case errno != 0:
			failed = os.NewSyscallError("connect", unix.Errno(errno))
		default:
			if _, err := unix.Getpeername(int(fd)); err != nil && first {
				first = false
				return false // not yet
			} else if err != nil {
				failed = os.NewSyscallError("connect", err)
			}
		}
		return true
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, failed)
}

// bound returns a socket of the calling thread's namespace that is bound to an address, and
// listens if that is its kind. The options are those of the address's family.
func bound(kind int, at netip.AddrPort, options ...int) (int, error) {
	family := familyOf(at.Addr())
	fd, err := unix.Socket(family.socket, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if family.six {
		options = append(options, unix.IPV6_V6ONLY)
	}
	for _, option := range append(options, 0) {
		level := family.level
		if option == 0 {
			level, option = unix.SOL_SOCKET, unix.SO_REUSEADDR
		}
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			_ = unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind %s: %w", at, err)
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 4096); err != nil {
			_ = unix.Close(fd)
			return -1, os.NewSyscallError("listen", err)
		}
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}
