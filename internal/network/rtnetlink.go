package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rtnetlink is a socket for what a namespace has of links, addresses, routes and
// neighbours: the namespace of the thread that has opened it, whoever uses it then.
//
// Requests are collected and sent in one message, since the kernel takes a lock for each
// that others wait for.
type rtnetlink struct {
	fd    int
	batch []byte
	names []string // of the requests in the batch, for errors
}

func openRTNetlink() (*rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	// A kernel that is that slow is out of order.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return &rtnetlink{fd: fd}, nil
}

func (r *rtnetlink) close() { _ = unix.Close(r.fd) }

// message is a request that is being written.
type message struct {
	r     *rtnetlink
	start int
}

// add begins a request; name says what it does.
func (r *rtnetlink) add(name string, typ uint16, flags uint16) message {
	m := message{r, len(r.batch)}
	r.names = append(r.names, name)
	b := binary.NativeEndian.AppendUint32(r.batch, 0) // the length, see end
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(r.names)))
	r.batch = binary.NativeEndian.AppendUint32(b, 0)
	return m
}

// raw appends the fixed part of a request.
func (m message) raw(b ...byte) { m.r.batch = append(m.r.batch, b...) }

func (m message) u32(v uint32) { m.r.batch = binary.NativeEndian.AppendUint32(m.r.batch, v) }

// attr appends an attribute.
func (m message) attr(typ uint16, value []byte) {
	b := binary.NativeEndian.AppendUint16(m.r.batch, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	m.r.batch = b
}

func (m message) attrU32(typ uint16, v uint32) {
	m.attr(typ, binary.NativeEndian.AppendUint32(nil, v))
}

func (m message) attrString(typ uint16, s string) { m.attr(typ, append([]byte(s), 0)) }

// nest appends attributes inside of another.
func (m message) nest(typ uint16, inside func()) {
	start := len(m.r.batch)
	m.attr(typ|unix.NLA_F_NESTED, nil)
	inside()
	binary.NativeEndian.PutUint16(m.r.batch[start:], uint16(len(m.r.batch)-start))
}

// end ends the request.
func (m message) end() {
	binary.NativeEndian.PutUint32(m.r.batch[m.start:], uint32(len(m.r.batch)-m.start))
}

// do sends the requests, and returns when all are done, with the first that failed.
func (r *rtnetlink) do() error {
	return r.exchange(func(syscall.NetlinkMessage) error { return nil })
}

// exchange is do, with what the kernel answers but for whether it was done.
func (r *rtnetlink) exchange(answer func(syscall.NetlinkMessage) error) error {
	batch, names := r.batch, r.names
	r.batch, r.names = r.batch[:0], nil
	if err := unix.Sendto(r.fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("send to the kernel", err)
	}
	var failed error
	buf := make([]byte, 64<<10)
	for done := 0; done < len(names); {
		n, _, err := unix.Recvfrom(r.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("receive from the kernel", err)
		}
		replies, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return os.NewSyscallError("receive from the kernel", err)
		}
		for _, reply := range replies {
			if reply.Header.Type != unix.NLMSG_ERROR {
				err = answer(reply)
			} else if done++; len(reply.Data) >= 4 {
				err = refusal(reply, names)
			}
			if failed == nil {
				failed = err
			}
		}
	}
	return failed
}

// refusal is what the kernel's answer to one of the requests says, nil that it is done.
func refusal(reply syscall.NetlinkMessage, names []string) error {
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(reply.Data)))
	if number := int(reply.Header.Seq) - 1; errno != 0 && number >= 0 && number < len(names) {
		return fmt.Errorf("%s: %w", names[number], errno)
	}
	return nil
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// veth makes a pair of links, of which each is what the other sends to.
func (r *rtnetlink) veth(name string, index int, mac net.HardwareAddr, peer string, peerIndex int, peerMAC net.HardwareAddr) {
	r.vethInto(name, index, mac, peer, peerIndex, peerMAC, -1)
}

// vethInto is veth with the peer in the namespace ns, if that is not negative.
func (r *rtnetlink) vethInto(name string, index int, mac net.HardwareAddr, peer string, peerIndex int, peerMAC net.HardwareAddr, ns int) {
	m := r.link("make "+name, index, 0, create)
	m.attrString(unix.IFLA_IFNAME, name)
	m.attr(unix.IFLA_ADDRESS, mac)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("veth"))
		m.nest(unix.IFLA_INFO_DATA, func() {
			const vethInfoPeer = 1 // VETH_INFO_PEER
			m.nest(vethInfoPeer, func() {
				m.raw(unix.AF_UNSPEC, 0, 0, 0)
				m.u32(uint32(peerIndex))
				m.u32(0)
				m.u32(0)
				m.attrString(unix.IFLA_IFNAME, peer)
				m.attr(unix.IFLA_ADDRESS, peerMAC)
				if ns >= 0 {
					m.attrU32(unix.IFLA_NET_NS_FD, uint32(ns))
				}
			})
		})
	})
	m.end()
}

// macvlan makes a link below parent that has a MAC address of its own, and puts it into the
// namespace ns with the index and the name.
func (r *rtnetlink) macvlan(parent, index int, name string, mac net.HardwareAddr, ns int) {
	m := r.link("make "+name, index, 0, create)
	m.attrString(unix.IFLA_IFNAME, name)
	m.attr(unix.IFLA_ADDRESS, mac)
	m.attrU32(unix.IFLA_LINK, uint32(parent))
	m.attrU32(unix.IFLA_NET_NS_FD, uint32(ns))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("macvlan"))
		m.nest(unix.IFLA_INFO_DATA, func() {
			// Private: what a pod sends to the MAC address of another goes to the gateway as well. A
			// bridge would take it there past the policies.
			const iflaMacvlanMode, private = 1, 1
			m.attrU32(iflaMacvlanMode, private)
		})
	})
	m.end()
}

// remove removes a link, and with a veth its peer.
func (r *rtnetlink) remove(index int) {
	r.about(unix.RTM_DELLINK, "remove the link", index, 0, 0).end()
}

// up switches a link on.
func (r *rtnetlink) up(index int) { r.link("switch on the link", index, unix.IFF_UP, 0).end() }

// silent switches a link on that asks nobody who has an address: who is not known is not there.
func (r *rtnetlink) silent(index int) {
	r.link("switch on the link", index, unix.IFF_UP|unix.IFF_NOARP, 0).end()
}

func (r *rtnetlink) link(name string, index int, up uint32, flags uint16) message {
	return r.about(unix.RTM_NEWLINK, name, index, up, flags)
}

// about begins a request of a type that is about a link.
func (r *rtnetlink) about(typ uint16, name string, index int, up uint32, flags uint16) message {
	m := r.add(name, typ, flags)
	m.raw(unix.AF_UNSPEC, 0, 0, 0)
	m.u32(uint32(index))
	m.u32(up) // flags, and which of them are meant
	m.u32(up)
	return m
}

// address gives a link an address without a network around it.
func (r *rtnetlink) address(index int, ip netip.Addr) {
	m := r.add("add the address "+ip.String(), unix.RTM_NEWADDR, create)
	m.raw(byte(familyOf(ip).socket), uint8(ip.BitLen()), 0, unix.RT_SCOPE_UNIVERSE)
	m.u32(uint32(index))
	m.attr(unix.IFA_LOCAL, ip.AsSlice())
	if !ip.Is4() {
		// Nobody is asked whether somebody else has it, and there is no network around it.
		m.attrU32(unix.IFA_FLAGS, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
	}
	m.end()
}

// route has what is for to leave by the link: to the neighbour via, if that is valid,
// from the address source, if that is.
func (r *rtnetlink) route(index int, to netip.Prefix, via, source netip.Addr) {
	r.routeBy(index, to, via, source, 0)
}

// routeBy is route with a metric: of several to the same, the one with the lowest is taken.
func (r *rtnetlink) routeBy(index int, to netip.Prefix, via, source netip.Addr, metric int) {
	m := r.add("add the route to "+to.String(), unix.RTM_NEWROUTE, create)
	scope := uint8(unix.RT_SCOPE_LINK)
	flags := uint32(0)
	if via.IsValid() {
		scope, flags = unix.RT_SCOPE_UNIVERSE, unix.RTNH_F_ONLINK
	}
	m.raw(byte(familyOf(to.Addr()).socket), uint8(to.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, scope, unix.RTN_UNICAST)
	m.u32(flags)
	if to.Bits() > 0 {
		m.attr(unix.RTA_DST, to.Addr().AsSlice())
	}
	if via.IsValid() {
		m.attr(unix.RTA_GATEWAY, via.AsSlice())
	}
	if source.IsValid() {
		m.attr(unix.RTA_PREFSRC, source.AsSlice())
	}
	if metric > 0 {
		m.attrU32(unix.RTA_PRIORITY, uint32(metric))
	}
	m.attrU32(unix.RTA_OIF, uint32(index))
	m.end()
}

// unreachable has those told who send to where no narrower route leads.
func (r *rtnetlink) unreachable(to netip.Prefix) {
	m := r.add("add the end of "+to.String(), unix.RTM_NEWROUTE, create)
	m.raw(byte(familyOf(to.Addr()).socket), uint8(to.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNREACHABLE)
	m.u32(0)
	m.attr(unix.RTA_DST, to.Addr().AsSlice())
	m.end()
}

// outside has what no other route of a family is for taken in as if it were for this machine.
func (r *rtnetlink) outside(f *family) {
	m := r.add("add the route to the outside", unix.RTM_NEWROUTE, create)
	m.raw(byte(f.socket), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL)
	m.u32(0)
	m.attrU32(unix.RTA_OIF, loopback)
	m.end()
}

// ready returns when a link that was switched on takes packets: the kernel gives it a queue
// some time after its peer is there, and drops what comes before.
func (r *rtnetlink) ready(index int) error {
	for range 5000 {
		queue, err := r.queue(index)
		if err != nil {
			return err
		}
		if queue != "noop" {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("switch on the link %d: %w", index, unix.ETIMEDOUT)
}

// queue returns the kind of queue that a link has.
func (r *rtnetlink) queue(index int) (string, error) {
	r.about(unix.RTM_GETLINK, "look at the link", index, 0, 0).end()
	var queue string
	err := r.exchange(func(reply syscall.NetlinkMessage) error {
		attrs, err := syscall.ParseNetlinkRouteAttr(&reply)
		for _, a := range attrs {
			if a.Attr.Type == unix.IFLA_QDISC {
				queue = unix.ByteSliceToString(a.Value)
			}
		}
		return err
	})
	return queue, err
}

// neighbour says for ever which MAC address an address has on a link.
func (r *rtnetlink) neighbour(index int, ip netip.Addr, mac net.HardwareAddr) {
	m := r.add("add the neighbour "+ip.String(), unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m.raw(byte(familyOf(ip).socket), 0, 0, 0)
	m.u32(uint32(index))
	m.raw(byte(unix.NUD_PERMANENT), 0, 0, 0)
	m.attr(unix.NDA_DST, ip.AsSlice())
	m.attr(unix.NDA_LLADDR, mac)
	m.end()
}

// loopback is the index of lo, which a namespace is born with.
const loopback = 1
