package image

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// roads are the ways to registries. One leads anywhere, the other not to this machine's own
// addresses and those of its link, where a cloud tells who asks what it is: whoever pulls has
// the rights of the engine there, past the walls of pods, and it is the registry that says where
// to go on.
type roads struct{ anywhere, outside *http.Transport }

func newRoads() roads {
	base := remote.DefaultTransport.(*http.Transport)
	out := base.Clone()
	out.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, Control: refuseInside}).DialContext
	return roads{base, out}
}

// refuseInside refuses a connection to what is inside. It is asked about addresses, not names.
func refuseInside(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err == nil && inward(addr.Addr()) {
		err = fmt.Errorf("the registry leads to %s, which is of this machine only", addr.Addr())
	}
	return err
}

// inward: it leads to this machine, or no further than its link.
func inward(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast()
}

// trip is one pull on the roads. The registry may be wherever the manifest says, and what is
// here itself may lead to its neighbours.
type trip struct {
	roads
	registry string
	here     atomic.Bool
}

// RoundTrip implements http.RoundTripper.
func (t *trip) RoundTrip(req *http.Request) (*http.Response, error) {
	if proxy, err := t.anywhere.Proxy(req); err != nil || proxy != nil {
		return t.anywhere.RoundTrip(req) // who knows its address is the proxy
	}
	own := req.URL.Host == t.registry
	if !own && !t.here.Load() {
		return t.outside.RoundTrip(req)
	}
	if own {
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: t.arrived}))
	}
	return t.anywhere.RoundTrip(req)
}

// arrived takes note of where the registry is.
func (t *trip) arrived(to httptrace.GotConnInfo) {
	if addr, ok := to.Conn.RemoteAddr().(*net.TCPAddr); ok && inward(addr.AddrPort().Addr()) {
		t.here.Store(true)
	}
}
