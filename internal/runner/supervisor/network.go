package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// The first versions of the protocol in which pods have networks, and policies, and IPv6: what is about
// that, the kernel would refuse from a former one together with what is beside it.
const (
	withNetworks = 5
	withPolicies = 7
	withIPv6     = 8
)

// handleNetwork does what a request asks for about networks.
func (s *Supervisor) handleNetwork(f frame) (any, error) {
	switch f.verb {
	case verbJoin:
		var req idRequest
		if err := json.Unmarshal(f.body, &req); err != nil {
			return nil, err
		}
		return s.join(req.ID)
	case verbServices:
		var list []network.Service
		if err := json.Unmarshal(f.body, &list); err != nil {
			return nil, err
		}
		return nil, s.launcher.SetServices(list)
	case verbPolicies:
		var p network.Policies
		if err := json.Unmarshal(f.body, &p); err != nil {
			return nil, err
		}
		return nil, s.launcher.SetPolicies(&p)
	}
	return nil, fmt.Errorf("supervisor: the request %d is not known", f.verb)
}

// join has the Launcher give a pod a network.
func (s *Supervisor) join(uid string) (runner.Joined, error) {
	if err := checkID(uid); err != nil {
		return runner.Joined{}, err
	}
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return runner.Joined{}, errStopping
	}
	s.pods[uid] = true
	s.mu.Unlock()
	joined, err := s.launcher.Join(uid)
	if err != nil {
		return runner.Joined{}, fmt.Errorf("pod %s: %w", uid, err)
	}
	return joined, nil
}

// networked returns the link to the supervisor whose pods have networks.
func (c *Client) networked(ctx context.Context) (*link, error) { return c.since(ctx, withNetworks) }

// since returns it if it speaks a version of the protocol.
func (c *Client) since(ctx context.Context, version int) (*link, error) {
	l, err := c.link(runner.Sandbox)
	if err != nil {
		return nil, err
	}
	conn, err := l.connected(ctx)
	if err == nil && conn.protocol < version && l.running() {
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, errOld)
	}
	return l, err
}

// Join implements runner.Runner.
func (c *Client) Join(ctx context.Context, podUID string) (runner.Joined, error) {
	for {
		l, err := c.networked(ctx)
		if err != nil {
			return runner.Joined{}, err
		}
		conn, err := l.connected(ctx)
		if err != nil {
			return runner.Joined{}, err
		}
		var answer runner.Joined
		err = l.ask(ctx, conn, verbJoin, &idRequest{ID: podUID}, &answer)
		if !errors.Is(err, errLost) && !errors.Is(err, errStopping) {
			return answer, err
		}
		// The supervisor ended at this moment; the next one is asked.
		if err := l.after(ctx, conn); err != nil {
			return runner.Joined{}, err
		}
	}
}

// SetServices implements runner.Runner.
func (c *Client) SetServices(ctx context.Context, list []network.Service) error {
	l, err := c.networked(ctx)
	if err != nil {
		return err
	}
	if conn, err := l.connected(ctx); err == nil && conn.protocol < withIPv6 {
		list = network.ServicesOfIPv4(list)
	}
	return l.call(ctx, verbServices, list, nil)
}

// SetPolicies implements runner.Runner.
func (c *Client) SetPolicies(ctx context.Context, p *network.Policies) error {
	l, err := c.since(ctx, withPolicies)
	if err != nil {
		return err
	}
	if conn, err := l.connected(ctx); err == nil && conn.protocol < withIPv6 {
		p = p.IPv4()
	}
	return l.call(ctx, verbPolicies, p, nil)
}

// Names implements runner.Runner.
func (c *Client) Names(ctx context.Context) (net.PacketConn, net.Listener, error) {
	l, err := c.networked(ctx)
	if err != nil {
		return nil, nil, err
	}
	stream, err := l.open(verbNames, nil)
	if err != nil {
		return nil, nil, err
	}
	defer stream.close()
	var files []*os.File
	err = stream.awaitAll(ctx, nil, func(_ frame, got []*os.File) { files = append(files, got...) })
	defer closeFiles(files)
	if err != nil {
		return nil, nil, err
	}
	if len(files) != 2 {
		return nil, nil, errLost
	}
	udp, err := net.FilePacketConn(files[0])
	if err != nil {
		return nil, nil, err
	}
	tcp, err := net.FileListener(files[1])
	if err != nil {
		return nil, nil, errors.Join(err, udp.Close())
	}
	return udp, tcp, nil
}
