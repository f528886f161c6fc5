package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sampan-batch/sampan/internal/agent/proxy"
	"github.com/sampan-batch/sampan/internal/dns"
	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// cluster is what pods with a network of their own reach beyond it by the names and
// addresses of Services. It keeps the runner that has their network up to date, and answers
// their questions for names.
//
// The runner's network goes when its supervisor dies. It is then told all anew when the first
// pod joins the next one, before that pod's containers are started.
type cluster struct {
	options *Options
	police  *police
	names   *dns.Server
	listed  chan struct{} // closed when the first list is there

	mu      sync.Mutex
	table   []network.Service
	ports   map[string][]network.Service // of the machine, by the uid of the pod that asks for them
	network uint64                       // that was told last; 0: none
	stop    context.CancelFunc
	closed  string // why ports of the machine are closed that should be open
	// reopen is sent to when there are some: another node of this machine may have them, and die.
	reopen chan struct{}
}

// resolvConf says whom this machine asks for names.
const resolvConf = "/etc/resolv.conf"

func newCluster(o *Options, book *addressBook) *cluster {
	return &cluster{options: o, police: &police{options: o, book: book}, names: dns.NewServer(resolvConf), listed: make(chan struct{}), ports: make(map[string][]network.Service), stop: func() {}, reopen: make(chan struct{}, 1)}
}

// run keeps up with the Services until ctx ends.
func (c *cluster) run(ctx context.Context) {
	listed := sync.OnceFunc(func() { close(c.listed) })
	for ctx.Err() == nil {
		err := c.options.Client.WatchServices(ctx, func(services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice, namespaces []string) {
			c.update(ctx, services, endpoints, namespaces)
			listed()
		})
		if ctx.Err() == nil {
			c.options.Log.Warn("the watch of Services broke", "err", err)
			sleep(ctx, time.Second)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
}

// update takes the Services that there are now.
func (c *cluster) update(ctx context.Context, services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice, namespaces []string) {
	c.names.SetZone(dns.NewZone(dns.Cluster{Services: services, Endpoints: endpoints, Namespaces: namespaces, Server: namesService()}))
	table := c.withAPI(proxy.Table(c.options.Node.Name(), c.options.proxied, services, endpoints))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table = table
	c.tellLocked(ctx)
}

// tellLocked tells the runner what has changed.
func (c *cluster) tellLocked(ctx context.Context) {
	if c.network == 0 {
		return
	}
	if err := c.setLocked(ctx); err != nil && ctx.Err() == nil {
		c.options.Log.Warn("pods reach former Services", "err", err)
	}
}

// setLocked has the runner set all Services.
func (c *cluster) setLocked(ctx context.Context) error {
	list := slices.Clone(c.table)
	for _, ports := range c.ports {
		list = append(list, ports...)
	}
	err := c.runner().SetServices(ctx, list)
	if !errors.Is(err, network.ErrDoor) {
		c.closed = ""
		return err
	}
	if c.closed != err.Error() {
		c.closed = err.Error()
		c.options.Log.Warn("a Service or a pod is not reached from this machine by this node", "node", c.options.Node.Name(), "err", err)
	}
	select {
	case c.reopen <- struct{}{}:
	default:
	}
	return nil
}

// reopenTime is how soon a port of the machine is tried again that somebody else has.
const reopenTime = 2 * time.Second

// keepOpen opens the ports of the machine that could not be opened when they can be.
func (c *cluster) keepOpen(ctx context.Context) {
	for {
		select {
		case <-c.reopen:
		case <-ctx.Done():
			return
		}
		sleep(ctx, reopenTime)
		c.mu.Lock()
		c.tellLocked(ctx)
		c.mu.Unlock()
	}
}

// lead has the machine's ports that a pod asks for lead to its addresses, or, without any, no more.
func (c *cluster) lead(ctx context.Context, pod *corev1.Pod, uid string, addresses ...netip.Addr) {
	var ports []network.Service
	for _, at := range addresses {
		ports = append(ports, proxy.HostPorts(pod, at)...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(ports) == 0 && c.ports[uid] == nil {
		return
	}
	if c.ports[uid] = ports; ports == nil {
		delete(c.ports, uid)
	}
	c.tellLocked(ctx)
}

// withAPI sees to it that pods reach the API where Kubernetes has it.
func (c *cluster) withAPI(table []network.Service) []network.Service {
	if !c.options.API.IsValid() {
		return table
	}
	api := network.Service{
		At:        network.Port{Address: apiService().Addr(), Port: apiService().Port(), Protocol: network.TCP},
		Endpoints: []netip.AddrPort{c.options.API},
	}
	for i := range table {
		if table[i].At == api.At {
			table[i] = api
			return table
		}
	}
	return append(table, api)
}

// apiService is where pods with a network of their own find the API: the first address of
// those of Services.
func apiService() netip.AddrPort {
	return netip.AddrPortFrom(network.DefaultConfig().Services.Addr().Next(), 443)
}

// namesService is where they ask for names.
func namesService() netip.Addr { return network.DefaultConfig().Names }

// joined returns when the network that a pod has joined has its Services and names.
func (c *cluster) joined(ctx context.Context, in runner.Joined) error {
	select {
	case <-c.listed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.network == in.Network {
		return nil
	}
	if in.Unreached != "" {
		c.options.Log.Warn("this machine does not reach pods by their addresses", "why", in.Unreached)
	}
	if err := c.setLocked(ctx); err != nil {
		return err
	}
	udp, tcp, err := c.runner().Names(ctx)
	if err != nil {
		return err
	}
	c.stop()
	// Not the context of the pod that came first.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.network, c.stop = in.Network, stop
	go c.names.Serve(serving, udp, tcp)
	return c.police.begin(ctx)
}

func (c *cluster) runner() runner.Runner { return c.options.Runners[runner.Sandbox] }
