package network

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/share"
)

// doors are ports of the machine that lead to pods: this process listens there, and connects
// to them from the node's namespace, so that they see the gateway and not who came.
type doors struct {
	n      *Network
	places *share.Pool[Port]

	mu   sync.Mutex
	open map[Port]*door
}

// door is one of them.
type door struct {
	n        *Network
	at       Port
	listener net.Listener // TCP
	packets  *packets     // UDP
	stop     context.CancelFunc
	work     sync.WaitGroup

	mu        sync.Mutex
	endpoints []netip.AddrPort
	sticky    bool
}

// set opens the doors of the list, and closes others. A door that cannot be opened, because
// somebody else is there, is left out; the error tells which.
func (d *doors) set(list []Service) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := make(map[Port]*door, len(list))
	var errs []error
	for i := range list {
		s := &list[i]
		one := d.open[s.At]
		if one == nil {
			var err error
			if one, err = d.n.newDoor(s.At); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		one.lead(s)
		next[s.At] = one
	}
	for at, one := range d.open {
		if next[at] == nil {
			one.close()
		}
	}
	d.open = next
	return errors.Join(errs...)
}

func (n *Network) newDoor(at Port) (*door, error) {
	ctx, stop := context.WithCancel(context.Background())
	d := &door{n: n, at: at, stop: stop}
	var err error
	run := d.run
	if at.Protocol == UDP {
		d.packets, err = newPackets(d)
		run = d.receive
	} else {
		d.listener, err = net.Listen(familyOf(at.Address).network("tcp"), netip.AddrPortFrom(at.Address, at.Port).String())
	}
	if err != nil {
		stop()
		return nil, err
	}
	d.work.Go(func() { run(ctx) })
	return d, nil
}

func (d *door) lead(s *Service) {
	d.mu.Lock()
	d.endpoints, d.sticky = s.Endpoints, s.Sticky
	d.mu.Unlock()
	if d.packets != nil {
		d.packets.keep(s.Endpoints)
	}
}

func (d *door) close() {
	d.stop()
	if d.packets != nil {
		d.packets.close()
	} else {
		d.listener.Close()
	}
	d.work.Wait()
}

// choose returns an endpoint for a client, if there is one: one by lot or, where it is always to be
// the same, by who the client is. A client of the machine itself reaches all of them.
func (d *door) choose(client netip.Addr, itself bool) (netip.AddrPort, bool) {
	d.mu.Lock()
	endpoints, sticky := d.endpoints, d.sticky
	d.mu.Unlock()
	if !itself {
		endpoints = slices.DeleteFunc(slices.Clone(endpoints), func(e netip.AddrPort) bool { return !d.n.admits(client, e) })
	}
	switch {
	case len(endpoints) == 0:
		return netip.AddrPort{}, false
	case sticky:
		hash := fnv.New32a()
		hash.Write(client.AsSlice())
		return endpoints[hash.Sum32()%uint32(len(endpoints))], true
	}
	return endpoints[rand.IntN(len(endpoints))], true
}

// run takes who connects.
func (d *door) run(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := d.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is left
			time.Sleep(100 * time.Millisecond)
			continue
		}
		release, ok := d.n.doors.places.Take(d.at)
		if !ok {
			reset(conn.(*net.TCPConn))
			continue
		}
		d.work.Go(func() {
			defer release()
			d.through(ctx, conn.(*net.TCPConn))
		})
	}
}

// through goes between a client and one of the endpoints.
func (d *door) through(ctx context.Context, client *net.TCPConn) {
	defer client.Close()
	from := addressOf(client.RemoteAddr())
	to, ok := d.choose(from, from == addressOf(client.LocalAddr()))
	if !ok {
		reset(client)
		return
	}
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	other, err := d.n.dialOne(dialing, []netip.AddrPort{to})
	if err != nil {
		reset(client)
		return
	}
	join(ctx, client, other)
}

func addressOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }

// close closes them all.
func (d *doors) close() { _ = d.set(nil) }
