package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// networks is the network of the pods. It is made once, beside the first start.
type networks struct {
	l    *Launcher
	once sync.Once
	// ending is done by close, with ended for a result.
	ending sync.Once
	ended  error
	net    *network.Network
	id     uint64 // of this network: the next supervisor's is another
	err    error
	// sys is where /sys is as pods with a network of their own see it; "" if the kernel makes
	// none.
	sys string
}

// get returns the network, or why there is none: an errors.ErrUnsupported.
func (n *networks) get() (*network.Network, error) {
	n.once.Do(func() {
		if n.l.env.NoNamespaces != "" {
			n.err = fmt.Errorf("%s: %w", n.l.env.NoNamespaces, errors.ErrUnsupported)
			return
		}
		n.id = rand.Uint64() | 1
		config := network.DefaultConfig()
		config.Log, config.Hub, config.Machine, config.IPv6 = n.l.env.Log, n.l.env.Hub, n.l.env.Machine, n.l.env.IPv6
		if n.l.env.Pods.IsValid() {
			config.Pods, config.Cluster = n.l.env.Pods, n.l.env.Cluster
		}
		if n.net, n.err = network.New(config); n.err != nil {
			n.l.env.Log.Warn("pods share the machine's network: they cannot have their own", "err", n.err)
			n.err = fmt.Errorf("%w: %w", n.err, errors.ErrUnsupported)
			return
		}
		if err := n.mountSys(); err != nil {
			n.l.env.Log.Warn("pods see the machine's links in /sys", "err", err)
		}
	})
	return n.net, n.err
}

// close ends the network. It may be called again.
func (n *networks) close() error {
	n.once.Do(func() { n.err = fmt.Errorf("closed: %w", errors.ErrUnsupported) })
	n.ending.Do(func() {
		if n.net != nil {
			n.ended = n.net.Close()
		}
	})
	return n.ended
}

// sample is the pod whose links all see in /sys: to mount one for each would cost as much
// as the rest of its network.
const sample = "sample"

// mountSys mounts the /sys that belongs to the network of a pod.
func (n *networks) mountSys() error {
	if _, err := n.net.Join(sample); err != nil {
		return err
	}
	at := n.l.kit.podSys
	inside := n.net.Inside(sample, func() error {
		return mountSys(at, n.l.kit.empty, &n.l.host, true)
	})
	if inside == nil {
		n.sys = at
	}
	return inside
}

// Join implements runner.Launcher.
func (l *Launcher) Join(podUID string) (runner.Joined, error) {
	n, err := l.networks.get()
	if err != nil {
		return runner.Joined{}, err
	}
	at, err := n.Join(podUID)
	return runner.Joined{Address: at.IPv4, IPv6: at.IPv6, Network: l.networks.id, Unreached: n.Unreached()}, err
}

// SetServices implements runner.Launcher.
func (l *Launcher) SetServices(list []network.Service) error {
	n, err := l.networks.get()
	if err != nil {
		return err
	}
	return n.SetServices(list)
}

// SetPolicies implements runner.Launcher.
func (l *Launcher) SetPolicies(p *network.Policies) error {
	n, err := l.networks.get()
	if err != nil {
		return err
	}
	return n.SetPolicies(p)
}

// Names implements runner.Launcher.
func (l *Launcher) Names() (udp, tcp *os.File, err error) {
	n, err := l.networks.get()
	if err != nil {
		return nil, nil, err
	}
	return n.Names()
}

// Hub implements runner.Launcher.
func (l *Launcher) Hub() (*os.File, error) {
	n, err := l.networks.get()
	if err != nil {
		return nil, err
	}
	return n.Hub()
}

// Dial implements runner.Launcher.
func (l *Launcher) Dial(ctx context.Context, to runner.Target) (net.Conn, error) {
	if n := l.networks.made(); n != nil {
		conn, err := n.DialPod(ctx, to.PodUID, to.Port, to.Outside)
		if !errors.Is(err, network.ErrNotFound) {
			return conn, err
		}
	}
	return runner.DialMachine(ctx, to.Port)
}

// made returns the network if any pod has asked for it.
func (n *networks) made() *network.Network {
	net, err := n.get()
	if err != nil {
		return nil
	}
	return net
}

// leave takes back what a pod has of the network.
func (n *networks) leave(podUID string) {
	if net := n.made(); net != nil {
		net.Leave(podUID)
	}
}

// joinNetwork moves the child into the pod's network.
func (c *container) joinNetwork() error {
	if !c.spec.PodNetwork {
		return nil
	}
	n, err := c.l.networks.get()
	if err != nil {
		return err
	}
	ns, err := n.Namespace(c.spec.Pod.UID)
	if err != nil {
		return fmt.Errorf("%w: %w", runner.ErrNoNetwork, err)
	}
	if c.spec.Privileged || slices.Contains(c.spec.Capabilities, "CAP_NET_ADMIN") {
		if err := n.Change(c.spec.Pod.UID); err != nil {
			return err
		}
	}
	return c.setns("network", ns, unix.CLONE_NEWNET)
}
