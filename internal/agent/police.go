package agent

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/policy"
	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// police keeps the runner that has the pods' network up to date about what NetworkPolicies let
// through.
type police struct {
	options *Options
	book    *addressBook

	mu        sync.Mutex
	connected bool // there is a network
	// told is what it knows; nil: nothing, and everybody reaches everybody.
	told *network.Policies
}

// run keeps up until ctx ends.
func (p *police) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.options.Client.WatchPolicies(ctx, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if err := p.tellLocked(ctx); err != nil && ctx.Err() == nil {
				p.options.Log.Warn("former NetworkPolicies are enforced", "err", err)
			}
		})
		if ctx.Err() == nil {
			p.options.Log.Warn("the watch of NetworkPolicies broke", "err", err)
			sleep(ctx, time.Second)
		}
	}
}

// begin tells a network that knows nothing.
func (p *police) begin(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected, p.told = true, nil
	return p.tellLocked(ctx)
}

// isolate returns when what there is of NetworkPolicies about a pod is enforced: before it begins
// to do anything.
func (p *police) isolate(ctx context.Context, pod *corev1.Pod) error {
	if !policy.Selects(p.options.Client.Policies().Policies, pod) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tellLocked(ctx)
}

// tellLocked tells the runner what the policies are that there are now, if it does not know.
func (p *police) tellLocked(ctx context.Context) error {
	if !p.connected {
		return nil
	}
	world := p.options.Client.Policies()
	if len(world.Policies) == 0 && p.told == nil {
		return nil
	}
	config := network.DefaultConfig()
	table := policy.Table(&policy.Node{
		Name: p.options.Node.Name(), Pods: p.book.all(), IsPod: config.IsPod, Names: config.Names, Hosts: p.options.Hosts,
	}, &world)
	if p.told != nil && reflect.DeepEqual(*p.told, table) {
		return nil
	}
	err := p.options.Runners[runner.Sandbox].SetPolicies(ctx, &table)
	if errors.Is(err, errors.ErrUnsupported) { // it is older than this engine
		p.options.Log.Warn("NetworkPolicies are not enforced on this node", "node", p.options.Node.Name(), "why", err)
		err = nil
	}
	if err == nil {
		p.told = &table
	}
	return err
}
