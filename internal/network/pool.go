package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// space is the namespace of a pod, with its addresses.
type space struct {
	address  netip.Addr
	address6 netip.Addr // not valid without IPv6
	ns       int
	sockets  *os.File  // says how many sockets there are in it
	released time.Time // when the last pod left it
	// changed: the pod might have changed what the next one finds.
	changed bool
	link    int // the pod's alone, in the node's namespace; 0: it has one beside others
}

func (s *space) close() {
	_ = unix.Close(s.ns)
	s.sockets.Close()
}

// pool keeps the spaces that nobody is in, in the order in which they were left. It is
// guarded by Network.mu.
type pool struct {
	free []*space
	// fresh are those that nobody has been in; see ahead.
	fresh []*space
	next  int // how many addresses have been given away so far
	gone  []netip.Addr
}

// When a space is taken again. A flow to the pod that was there before may go on for a
// while, so the longer the better; and there is a price to having many.
const (
	enoughSpaces = 64
	restTime     = 30 * time.Second
	// patience is how long sockets may stay in a space that nobody is in: another pod may
	// have been handed one. Then it is given up.
	patience = 2 * time.Minute
)

// take returns a space to use again, or nil.
func (p *pool) take(now time.Time) *space {
	for tries := 0; tries < 4 && p.rested(0, now); tries++ {
		s := p.free[0]
		p.free = p.free[1:]
		switch empty, err := s.empty(); {
		case err == nil && empty:
			return s
		case err == nil && now.Sub(s.released) < patience:
			p.free = append(p.free, s)
		default:
			p.discard(s)
		}
	}
	if last := len(p.fresh) - 1; last >= 0 {
		s := p.fresh[last]
		p.fresh = p.fresh[:last]
		return s
	}
	return nil
}

// rested tells whether the space that was left as the i-th may be taken again, once those before
// it have been.
func (p *pool) rested(i int, now time.Time) bool {
	return i < len(p.free) && (len(p.free)-i >= enoughSpaces || now.Sub(p.free[i].released) >= restTime)
}

// ready returns how many spaces could be taken now, or spareSpaces if those are more.
func (p *pool) ready(now time.Time) int {
	n := 0
	for n+len(p.fresh) < spareSpaces && p.rested(n, now) {
		n++
	}
	return min(n+len(p.fresh), spareSpaces)
}

// put takes a space back.
func (p *pool) put(s *space, now time.Time) {
	if s.changed {
		p.discard(s)
		return
	}
	s.released = now
	p.free = append(p.free, s)
}

func (p *pool) discard(s *space) {
	s.close()
	p.gone = append(p.gone, s.address)
}

// address returns one that no space has. Those that were given up are had last: the
// kernel takes its time to take a namespace away.
func (p *pool) address(pods netip.Prefix) (netip.Addr, error) {
	const reserved = 2 // the network's own, and the gateway
	if most := 1<<(32-pods.Bits()) - 1; p.next+reserved < most {
		p.next++
		return nth(pods, p.next-1+reserved), nil
	}
	if len(p.gone) == 0 {
		return netip.Addr{}, ErrFull
	}
	a := p.gone[0]
	p.gone = p.gone[1:]
	return a, nil
}

func (p *pool) close() {
	for _, s := range slices.Concat(p.free, p.fresh) {
		s.close()
	}
}

// nth returns an address of a range.
func nth(r netip.Prefix, i int) netip.Addr {
	a := r.Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += uint32(i)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// indexOf is the inverse of nth.
func indexOf(r netip.Prefix, ip netip.Addr) int {
	a, b := r.Addr().As4(), ip.As4()
	v := func(x [4]byte) int { return int(x[0])<<24 | int(x[1])<<16 | int(x[2])<<8 | int(x[3]) }
	return v(b) - v(a)
}

var errSockstat = errors.New("network: the kernel does not say how many sockets there are")

// empty tells whether there is no socket in the space, not even one that waits for what
// may still be under way to it.
func (s *space) empty() (bool, error) {
	var buf [512]byte
	n, err := s.sockets.ReadAt(buf[:], 0)
	if n == 0 {
		return false, fmt.Errorf("%w: %w", errSockstat, err)
	}
	used, ok := field(buf[:n], "sockets: used ")
	if !ok {
		return false, errSockstat
	}
	waiting, _ := field(buf[:n], " tw ")
	orphans, _ := field(buf[:n], " orphan ")
	return used+waiting+orphans == 0, nil
}

// field returns the number behind a name.
func field(text []byte, name string) (int, bool) {
	_, rest, ok := bytes.Cut(text, []byte(name))
	if !ok {
		return 0, false
	}
	digits := rest
	if i := bytes.IndexAny(rest, " \n"); i >= 0 {
		digits = rest[:i]
	}
	v, err := strconv.Atoi(string(digits))
	return v, err == nil
}
