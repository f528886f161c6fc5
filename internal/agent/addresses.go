package agent

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/sampan-batch/sampan/internal/agent/network"
)

// addressBook is what the node knows of its pods' addresses: which those have that have joined
// a network of their own, and whether pods can. It is safe for concurrent use.
type addressBook struct {
	node   []string // the machine's
	shared atomic.Bool

	mu  sync.Mutex
	own map[string][]string // by the pod's uid
}

func newAddressBook(node []string) *addressBook {
	return &addressBook{node: node, own: make(map[string][]string)}
}

// share says that this machine cannot give pods networks of their own: all have the machine's.
// It returns whether that is new.
func (b *addressBook) share() bool { return b.shared.CompareAndSwap(false, true) }

// set says which addresses a pod has in a network of its own; none is that it has left.
func (b *addressBook) set(uid string, addresses ...netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(addresses) == 0 {
		delete(b.own, uid)
		return
	}
	own := make([]string, len(addresses))
	for i, ip := range addresses {
		own[i] = ip.String()
	}
	b.own[uid] = own
}

// all returns the addresses of pods that have a network of their own.
func (b *addressBook) all() map[string][]netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string][]netip.Addr, len(b.own))
	for uid, list := range b.own {
		for _, text := range list {
			if at, err := netip.ParseAddr(text); err == nil {
				all[uid] = append(all[uid], at)
			}
		}
	}
	return all
}

// machine returns the addresses of a pod that has the machine's network.
func (b *addressBook) machine() network.Addresses {
	return network.Addresses{Pod: b.node, Node: b.node}
}

// of returns the addresses of a pod that has its own network. As long as it has not joined
// that, they are those of the node alone.
func (b *addressBook) of(uid string) network.Addresses {
	b.mu.Lock()
	defer b.mu.Unlock()
	return network.Addresses{Pod: b.own[uid], Node: b.node, Own: true}
}
