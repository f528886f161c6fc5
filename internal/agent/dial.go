package agent

import (
	"context"
	"net"
	"net/netip"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// dialer returns what connects to the TCP addresses that a pod's probes and hooks name: from
// this process, but to a pod that has a network of its own from there, where it is reached.
func dialer(run runner.Runner, uid string, at network.Addresses) func(ctx context.Context, address string) (net.Conn, error) {
	if !at.Own {
		return nil
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		if to, err := netip.ParseAddrPort(address); err == nil && to.Addr().String() == at.PodIP() {
			return run.Dial(ctx, runner.Target{PodUID: uid, Port: to.Port(), Outside: true})
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}
