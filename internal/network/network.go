package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/share"
)

// Config is what a Network is made with.
type Config struct {
	// Pods is the range of the pods' addresses, IPv4. Its first address is the gateway's.
	Pods netip.Prefix
	// Cluster is the range of the addresses that pods have on any node of the machine.
	Cluster netip.Prefix
	// Hub is what the node is connected to others of the machine by, which stays the caller's;
	// nil: none. See Network.Hub.
	Hub *os.File
	// Services is the range of the Services' addresses, and Names the one of them that
	// the cluster's names are asked at.
	Services netip.Prefix
	Names    netip.Addr
	// IPv6 gives each pod an address of IPv6 as well, of Cluster6 the one that belongs to its other
	// (see PodsIPv6), and Services6 is the range of the Services' such addresses.
	IPv6                bool
	Cluster6, Services6 netip.Prefix
	// Machine has the machine, in whose network the caller is, reach pods and Services by their
	// addresses. If that cannot be, the log says so.
	Machine bool
	Log     *slog.Logger
}

// DefaultConfig returns the ranges that kind and kubeadm have, and the address that the
// latter gives to the cluster's DNS.
func DefaultConfig() Config {
	return Config{
		Pods:     netip.MustParsePrefix("10.244.0.0/16"),
		Cluster:  netip.MustParsePrefix("10.244.0.0/16"),
		Services: netip.MustParsePrefix("10.96.0.0/16"),
		Names:    netip.MustParseAddr("10.96.0.10"),

		Cluster6:  netip.MustParsePrefix("fd00:10:244::/56"),
		Services6: netip.MustParsePrefix("fd00:10:96::/112"),
		Log:       slog.New(slog.DiscardHandler),
	}
}

var (
	// ErrNotFound: the pod has no network.
	ErrNotFound = errors.New("network: the pod has none")
	// ErrFull: the range has no address for one more pod.
	ErrFull = errors.New("network: all addresses are taken")
	// ErrDoor: a port of the machine does not lead to its pods.
	ErrDoor = errors.New("a port of this machine cannot be opened")
)

// Network is that of a node: a namespace, and those of its pods. All methods are safe for
// concurrent use.
type Network struct {
	config  Config
	gateway netip.Addr
	// gateway6 is the same for IPv6, not valid without; so are rules6.
	gateway6 netip.Addr
	thread   *thread
	node     int        // the node's namespace
	hub      int        // what it is connected to others by, -1: nothing; the thread's
	links    *rtnetlink // in it
	rules    *rules
	rules6   *rules
	outside  *outside
	doors    doors
	names    [2]*os.File // where names are asked for: UDP and TCP
	// unreached says why the machine does not reach pods, if it was to.
	unreached string

	// making is held by who makes a space, and taken before mu.
	making  sync.Mutex
	parents int // how many pairs of links there are; see parent

	mu      sync.Mutex
	pods    map[string]*space // by the pod's uid
	joining map[string]bool   // those that a space is made for; Leave takes them out
	pool    pool
	ahead   ahead
	closed  bool
}

// New makes a network without pods. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN, be it in a
// user namespace.
func New(config Config) (_ *Network, err error) {
	n := &Network{
		config: config, gateway: config.Pods.Addr().Next(), thread: newThread(), node: -1, hub: -1,
		pods: make(map[string]*space), joining: make(map[string]bool),
	}
	n.doors.n, n.doors.places = n, share.New[Port](joins())
	n.ahead.n = n
	defer func() {
		if err != nil {
			err = fmt.Errorf("network: %w", errors.Join(err, n.Close()))
		}
	}()
	n.thread.do(func() { err = n.begin() })
	if err != nil {
		return nil, err
	}
	n.outside = newOutside(n)
	for _, r := range []*rules{n.rules, n.rules6} {
		if r == nil {
			continue
		}
		if err = n.outside.run(&r.proxy); err != nil {
			return nil, err
		}
	}
	if config.Machine {
		if err := n.connectMachine(); err != nil {
			n.unreached = errMachine(err).Error()
			config.Log.Warn("this machine does not reach pods by their addresses", "err", n.unreached)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ahead.soon()
	return n, nil
}

// begin makes the node's namespace and what is in it. From then on the thread is there.
func (n *Network) begin() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	var err error
	if n.node, err = openNamespace(); err != nil {
		return err
	}
	if n.links, err = openRTNetlink(); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"ip_forward":                  "1",
		"conf/all/rp_filter":          "1", // nobody sends in the name of a pod that is elsewhere
		"conf/all/send_redirects":     "0", // pods reach each other by the gateway and not otherwise
		"conf/default/send_redirects": "0", // of the links to come: either of the two is enough to send them
	} {
		if err := sysctl("ipv4/"+name, value); err != nil {
			return err
		}
	}
	n.begin6()
	n.links.up(loopback)
	n.links.address(loopback, n.config.Names)
	// What nothing else is known of is for the outside, which begins here.
	for _, s := range n.config.sides() {
		n.links.outside(s.family)
	}
	if err := n.links.do(); err != nil {
		return err
	}
	if err := n.addParent(); err != nil {
		return err
	}
	if n.rules, err = newRules(n.config.sides()[0]); err != nil {
		return err
	}
	if err := n.listenForNames(); err != nil || n.config.Hub == nil {
		return err
	}
	hub, err := unix.FcntlInt(n.config.Hub.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	return n.connectTo(hub)
}

// begin6 makes what IPv6 takes that a kernel may not have. Without, pods have the addresses of IPv4 alone.
// The rules are there before anything is that a packet could come by.
func (n *Network) begin6() {
	if !n.config.IPv6 {
		return
	}
	err := forward6()
	if err == nil {
		n.rules6, err = newRules(n.config.sides()[1])
	}
	if err != nil {
		n.config.Log.Warn("pods have no addresses of IPv6", "err", err)
		n.config.IPv6, n.rules6 = false, nil
		return
	}
	n.gateway6 = n.config.beside(n.gateway)
}

// listenForNames opens the sockets at which names are asked for. Whoever answers is given
// copies: questions wait for an engine that is being started anew.
func (n *Network) listenForNames() error {
	for i, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		fd, err := bound(kind, netip.AddrPortFrom(n.config.Names, 53))
		if err != nil {
			return err
		}
		n.names[i] = os.NewFile(uintptr(fd), "names")
	}
	return nil
}

// Names returns sockets at which the cluster's names are asked for, which are the caller's:
// a UDP one, and a TCP one that listens.
func (n *Network) Names() (udp, tcp *os.File, err error) {
	var copies [2]*os.File
	for i, f := range n.names {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, nil, os.NewSyscallError("fcntl", err)
		}
		copies[i] = os.NewFile(uintptr(fd), f.Name())
	}
	return copies[0], copies[1], nil
}

// Close ends the network. Namespaces live as long as processes are in them.
func (n *Network) Close() error {
	n.doors.close()
	if n.outside != nil {
		n.outside.close()
	}
	for _, f := range n.names {
		if f != nil {
			f.Close()
		}
	}
	n.making.Lock()
	defer n.making.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.ahead.stop()
	for _, s := range n.pods {
		s.close()
	}
	n.pool.close()
	for _, r := range []*rules{n.rules, n.rules6} {
		if r != nil {
			r.close()
		}
	}
	if n.links != nil {
		n.links.close()
	}
	for _, ns := range []int{n.node, n.hub} {
		if ns >= 0 {
			_ = unix.Close(ns)
		}
	}
	n.thread.end()
	return nil
}

// macOf makes a MAC address from an address, so that nobody has to ask for it. kind keeps
// apart what would have the same.
func macOf(kind byte, ip netip.Addr) net.HardwareAddr {
	a := ip.As4()
	return net.HardwareAddr{0x02, kind, a[0], a[1], a[2], a[3]} // 02: administered locally, for one
}

const (
	macPod byte = iota
	macGateway
	macParent
	macFabric
	macHub
	macMachine
)
