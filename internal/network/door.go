package network

import (
	"context"
	"errors"
	"fmt"
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
	listener net.Listener
	stop     context.CancelFunc
	work     sync.WaitGroup

	mu        sync.Mutex
	endpoints []netip.AddrPort
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
		if s.At.Protocol != TCP {
			errs = append(errs, fmt.Errorf("%s: only TCP is led in from the machine", s.At))
			continue
		}
		one := d.open[s.At]
		if one == nil {
			var err error
			if one, err = d.n.newDoor(s.At); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		one.lead(s.Endpoints)
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
	listener, err := net.Listen("tcp4", netip.AddrPortFrom(at.Address, at.Port).String())
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &door{listener: listener, stop: stop}
	d.work.Go(func() { d.run(ctx, n, at) })
	return d, nil
}

func (d *door) lead(to []netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endpoints = to
}

func (d *door) close() {
	d.stop()
	d.listener.Close()
	d.work.Wait()
}

// run takes who comes.
func (d *door) run(ctx context.Context, n *Network, at Port) {
	for ctx.Err() == nil {
		conn, err := d.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is left
			time.Sleep(100 * time.Millisecond)
			continue
		}
		release, ok := n.doors.places.Take(at)
		if !ok {
			reset(conn.(*net.TCPConn))
			continue
		}
		d.work.Go(func() {
			defer release()
			d.through(ctx, n, conn.(*net.TCPConn))
		})
	}
}

// through goes between a client and one of the endpoints.
func (d *door) through(ctx context.Context, n *Network, client *net.TCPConn) {
	defer client.Close()
	d.mu.Lock()
	endpoints := d.endpoints
	d.mu.Unlock()
	if from := addressOf(client.RemoteAddr()); from != addressOf(client.LocalAddr()) { // else it is the machine
		endpoints = slices.DeleteFunc(slices.Clone(endpoints), func(e netip.AddrPort) bool { return !n.rules.admits(from, e) })
	}
	if len(endpoints) == 0 {
		reset(client)
		return
	}
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	other, err := n.dialOne(dialing, endpoints)
	if err != nil {
		reset(client)
		return
	}
	join(ctx, client, other)
}

func addressOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }

// close closes them all.
func (d *doors) close() { _ = d.set(nil) }
