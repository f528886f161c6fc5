package fake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// networks are the addresses of pods. Nothing is carried.
type networks struct {
	first    netip.Addr // invalid: pods have no addresses
	next     netip.Addr
	pods     map[string]netip.Addr
	services []network.Service
	id       uint64
}

// GiveAddresses has pods get addresses of their own, beginning with first. By default they
// share the machine's.
func (r *Runner) GiveAddresses(first netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.networks = networks{first: first, next: first, id: 1, pods: make(map[string]netip.Addr)}
}

// LoseNetworks is what happens to networks when a supervisor dies.
func (r *Runner) LoseNetworks() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.networks.pods)
	r.networks.services = nil
	r.networks.id++
}

// Services returns those that SetServices has last set.
func (r *Runner) Services() []network.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.networks.services
}

func (n *networks) absent() error {
	if !n.first.IsValid() {
		return fmt.Errorf("fake: pods share the machine's network: %w", errors.ErrUnsupported)
	}
	return nil
}

// Join implements runner.Runner.
func (r *Runner) Join(_ context.Context, podUID string) (runner.Joined, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := &r.networks
	if err := n.absent(); err != nil {
		return runner.Joined{}, err
	}
	address, ok := n.pods[podUID]
	if !ok {
		address, n.next = n.next, n.next.Next()
		n.pods[podUID] = address
	}
	return runner.Joined{Address: address, Network: n.id}, nil
}

// joinedLocked refuses a container whose pod has no network.
func (r *Runner) joinedLocked(spec *runner.Spec) error {
	if _, ok := r.networks.pods[spec.Pod.UID]; spec.PodNetwork && !ok {
		return runner.ErrNoNetwork
	}
	return nil
}

// SetServices implements runner.Runner.
func (r *Runner) SetServices(_ context.Context, list []network.Service) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.networks.services = list
	return r.networks.absent()
}

// SetPolicies implements runner.Runner.
func (r *Runner) SetPolicies(context.Context, *network.Policies) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.networks.absent()
}

// Names implements runner.Runner: nobody asks.
func (r *Runner) Names(context.Context) (net.PacketConn, net.Listener, error) {
	return nil, nil, fmt.Errorf("fake: no names: %w", errors.ErrUnsupported)
}
