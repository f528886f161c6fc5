package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// proxyPorts are the sockets to which the rules lead what is for the outside.
type proxyPorts struct {
	tcp, udp         *os.File
	tcpPort, udpPort uint16
}

// listen opens them, in the namespace of the calling thread.
func (p *proxyPorts) listen(f *family) error {
	any := netip.AddrPortFrom(f.unspecified(), 0)
	tcp, err := bound(unix.SOCK_STREAM, any)
	if err != nil {
		return err
	}
	p.tcp = os.NewFile(uintptr(tcp), "outside")
	if p.tcpPort, err = portOf(tcp); err != nil {
		return err
	}
	udp, err := bound(unix.SOCK_DGRAM, any, f.transparent, f.wasFor)
	if err != nil {
		return err
	}
	p.udp = os.NewFile(uintptr(udp), "outside")
	p.udpPort, err = portOf(udp)
	return err
}

func (p *proxyPorts) close() {
	for _, f := range []*os.File{p.tcp, p.udp} {
		if f != nil {
			f.Close()
		}
	}
}

func portOf(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port), nil
	case *unix.SockaddrInet6:
		return uint16(a.Port), nil
	}
	return 0, os.NewSyscallError("getsockname", unix.EAFNOSUPPORT)
}

// wanted returns the address that the client of a redirected connection has connected to.
func wanted(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var failed error
	err = raw.Control(func(fd uintptr) {
		to, failed = originalTarget(int(fd), familyOf(addressOf(conn.RemoteAddr())))
	})
	if err == nil {
		err = failed
	}
	return to, err
}

// originalTarget returns what a socket was meant for before its target was translated.
func originalTarget(fd int, f *family) (netip.AddrPort, error) {
	if f.six {
		// A struct sockaddr_in6 is the first part of this one.
		info, err := unix.GetsockoptIPv6MTUInfo(fd, f.level, f.original)
		if err != nil {
			return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
		}
		port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, info.Addr.Port))
		return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), port), nil
	}
	// A struct sockaddr_in has the size of the first part of this one.
	mreq, err := unix.GetsockoptIPv6Mreq(fd, f.level, f.original)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
	}
	b := mreq.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// targetOf returns the address that a packet was sent to, from what came with it.
func targetOf(control []byte) (netip.AddrPort, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for i := range messages {
		sa, err := unix.ParseOrigDstAddr(&messages[i])
		if err != nil {
			continue
		}
		switch a := sa.(type) {
		case *unix.SockaddrInet4:
			return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
		case *unix.SockaddrInet6:
			return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
		}
	}
	return netip.AddrPort{}, false
}
