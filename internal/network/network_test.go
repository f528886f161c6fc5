package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain has the tests of an ordinary user run in a user namespace, as the supervisor does.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newNetwork(tb testing.TB) *Network {
	tb.Helper()
	n, err := New(DefaultConfig())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

func joined(tb testing.TB, n *Network, uid string) netip.Addr {
	tb.Helper()
	at, err := n.Join(uid)
	if err != nil {
		tb.Fatal(err)
	}
	return at.IPv4
}

// inside calls f in a thread that is in the pod's namespace, as the pod's processes are.
func inside(tb testing.TB, n *Network, uid string, f func()) {
	tb.Helper()
	if err := n.Inside(uid, func() error { f(); return nil }); err != nil {
		tb.Fatal(err)
	}
}

// serve has a pod answer each connection to a port with a word and where it came from.
func serve(tb testing.TB, n *Network, uid, address, word string) {
	tb.Helper()
	serveBy(tb, n, uid, "tcp4", address, word)
}

func serveBy(tb testing.TB, n *Network, uid, protocol, address, word string) {
	tb.Helper()
	var l net.Listener
	inside(tb, n, uid, func() {
		var err error
		if l, err = net.Listen(protocol, address); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			fmt.Fprintf(conn, "%s to %s", word, host)
			conn.Close()
		}
	}()
}

// ask returns what is answered to a pod that connects to an address.
func ask(tb testing.TB, n *Network, uid, address string) (string, error) {
	tb.Helper()
	ns, err := n.Namespace(uid)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
	defer cancel()
	conn, err := n.dial(ctx, ns, netip.MustParseAddrPort(address))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

func expect(tb testing.TB, n *Network, uid, address, want string) {
	tb.Helper()
	got, err := ask(tb, n, uid, address)
	if err != nil {
		got = err.Error()
	}
	if !strings.Contains(got, want) {
		tb.Errorf("%s asks %s: got %q, want %q", uid, address, got, want)
	}
}

// TestPods has pods reach each other, and the node reach them, with addresses of their own;
// five listen at the same port.
func TestPods(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	ips := make(map[string]netip.Addr)
	for i := range 5 {
		uid := fmt.Sprint("pod", i)
		ips[uid] = joined(t, n, uid)
		if again := joined(t, n, uid); again != ips[uid] {
			t.Errorf("%s is at %s, and then at %s", uid, ips[uid], again)
		}
		serve(t, n, uid, ":8080", uid)
	}
	for from, ip := range ips {
		for to, target := range ips {
			want := to + " to " + ip.String()
			if from == to {
				want = to + " to " + target.String()
			}
			expect(t, n, from, target.String()+":8080", want)
		}
		expect(t, n, from, ip.String()+":81", "connection refused")
		expect(t, n, from, "127.0.0.1:8080", from)
	}
	conn, err := n.Dial(t.Context(), netip.AddrPortFrom(ips["pod3"], 8080))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, _ := io.ReadAll(conn); string(got) != "pod3 to "+n.gateway.String() {
		t.Errorf("the node got %q", got)
	}
	serve(t, n, "pod4", "127.0.0.1:99", "local")
	local, err := n.DialPod(t.Context(), "pod4", 99, false)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	if got, _ := io.ReadAll(local); string(got) != "local to 127.0.0.1" {
		t.Errorf("inside the pod: got %q", got)
	}
	if _, err := n.DialPod(t.Context(), "pod4", 98, false); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody listens there: %v", err)
	}
	if _, err := n.DialPod(t.Context(), "nobody", 98, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such pod: %v", err)
	}
}

// TestServices has clients reach the endpoints of Services, all of them, and themselves.
func TestServices(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := joined(t, n, "a"), joined(t, n, "b")
	joined(t, n, "client")
	serve(t, n, "a", ":8080", "a")
	serve(t, n, "b", ":8081", "b")
	ends := []netip.AddrPort{netip.AddrPortFrom(a, 8080), netip.AddrPortFrom(b, 8081)}
	at := Port{netip.MustParseAddr("10.96.7.7"), 80, TCP}
	set := func(list ...Service) {
		t.Helper()
		if err := n.SetServices(list); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, n, "client", "10.96.7.7:80", "connection refused")
	set(Service{At: at, Endpoints: ends})
	heard := make(map[string]int)
	for range 40 {
		answer, err := ask(t, n, "client", "10.96.7.7:80")
		if err != nil {
			t.Fatal(err)
		}
		heard[answer[:1]]++
	}
	if heard["a"] < 5 || heard["b"] < 5 {
		t.Errorf("the client heard %v", heard)
	}
	expect(t, n, "client", "10.96.7.7:81", "connection refused")

	set(Service{At: at, Endpoints: ends[:1]})
	expect(t, n, "a", "10.96.7.7:80", "a to "+n.gateway.String()) // itself
	expect(t, n, "b", "10.96.7.7:80", "a to "+b.String())

	set(Service{At: at, Endpoints: ends, Sticky: true}, Service{At: Port{at.Address, 81, TCP}, Endpoints: ends[1:]})
	expect(t, n, "client", "10.96.7.7:81", "b to")
	first, _ := ask(t, n, "client", "10.96.7.7:80")
	for range 20 {
		expect(t, n, "client", "10.96.7.7:80", first)
	}

	set(Service{At: at})
	expect(t, n, "client", "10.96.7.7:80", "connection refused")
	set()
	if len(n.rules.uses) > 0 {
		t.Errorf("endpoints of no Service: %v", n.rules.uses)
	}
}

// TestOutside has pods reach what this machine does, but for what it has for itself.
func TestOutside(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	joined(t, n, "client")
	own := ownAddress(t)
	listener, err := net.Listen("tcp4", netip.AddrPortFrom(own, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go echo(listener)
	expect(t, n, "client", listener.Addr().String(), "echo")
	listener.Close()
	expect(t, n, "client", listener.Addr().String(), "connection reset")

	local, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	go echo(local)
	expect(t, n, "client", local.Addr().String(), "connection refused") // the pod's own
	port := local.Addr().(*net.TCPAddr).AddrPort().Port()
	for _, ip := range []netip.Addr{n.gateway, n.config.Names} {
		expect(t, n, "client", netip.AddrPortFrom(ip, port).String(), "connection refused")
	}
	// It is only led to as an endpoint.
	err = n.SetServices([]Service{{
		At: Port{netip.MustParseAddr("10.96.0.1"), 443, TCP}, Endpoints: []netip.AddrPort{local.Addr().(*net.TCPAddr).AddrPort()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, n, "client", "10.96.0.1:443", "echo")
}

// TestOutsideByPackets is TestOutside with UDP.
func TestOutsideByPackets(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	joined(t, n, "client")
	server, err := net.ListenPacket("udp4", netip.AddrPortFrom(ownAddress(t), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 100)
		for {
			k, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(append([]byte("echo "), b[:k]...), from)
		}
	}()
	var conn net.Conn
	inside(t, n, "client", func() { conn, err = net.Dial("udp4", server.LocalAddr().String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	for i := range 3 {
		fmt.Fprint(conn, i)
		b := make([]byte, 100)
		k, err := conn.Read(b)
		if err != nil || string(b[:k]) != fmt.Sprint("echo ", i) {
			t.Fatalf("got %q, %v", b[:k], err)
		}
	}
}

// TestAgain has spaces used again, but not one that somebody still has a socket of.
func TestAgain(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	var l net.Listener
	joined(t, n, "hoarder")
	inside(t, n, "hoarder", func() { l, _ = net.Listen("tcp4", ":80") })
	defer l.Close()
	joined(t, n, "mighty")
	if err := n.Change("mighty"); err != nil {
		t.Fatal(err)
	}
	for i := range enoughSpaces + 2 {
		joined(t, n, fmt.Sprint(i))
	}
	n.mu.Lock()
	kept, mighty := n.pods["hoarder"].address, n.pods["mighty"].address
	n.mu.Unlock()
	n.Leave("hoarder")
	n.Leave("mighty")
	for i := range enoughSpaces + 2 {
		n.Leave(fmt.Sprint(i))
	}
	// The kernel takes its time to see that the sockets by which they were made are gone.
	n.mu.Lock()
	for _, s := range n.pool.free {
		for empty := s.address == kept; !empty; empty, _ = s.empty() {
			time.Sleep(time.Millisecond)
		}
	}
	before := n.pool.next
	n.mu.Unlock()
	seen := make(map[netip.Addr]bool)
	for i := range 3 * enoughSpaces {
		ip := joined(t, n, fmt.Sprint("next", i))
		if ip == kept || ip == mighty || seen[ip] && i < 3 {
			t.Fatalf("%s is used again", ip)
		}
		seen[ip] = true
		n.Leave(fmt.Sprint("next", i))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if made := n.pool.next - before; made > 1+spareSpaces {
		t.Errorf("%d spaces were made", made)
	}
}

// TestAhead has a pod find a space that was made before it came, and one that leaves while its
// space is made leave nothing behind.
func TestAhead(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	spares := func() int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.pool.fresh)
	}
	for spares() < spareSpaces {
		time.Sleep(time.Millisecond)
	}
	n.making.Lock() // no space is made now
	for i := range spareSpaces {
		joined(t, n, fmt.Sprint(i))
	}
	left := make(chan error)
	go func() {
		_, err := n.Join("leaver")
		left <- err
	}()
	joining := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.joining["leaver"]
	}
	for !joining() {
		time.Sleep(time.Millisecond)
	}
	n.Leave("leaver")
	n.making.Unlock()
	if err := <-left; !errors.Is(err, ErrNotFound) {
		t.Errorf("the pod that has left: %v", err)
	}
	if _, err := n.Namespace("leaver"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the pod that has left has a namespace: %v", err)
	}
	for spares() < spareSpaces {
		time.Sleep(time.Millisecond)
	}
}

// TestMany has as many pods at once as one pair of links does not take.
func TestMany(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	const most = podsOfParent + 50
	var last netip.Addr
	for i := range most {
		last = joined(t, n, fmt.Sprint(i))
	}
	serve(t, n, fmt.Sprint(most-1), ":80", "last")
	expect(t, n, "0", last.String()+":80", "last to "+n.pods["0"].address.String())
}

// TestDoors has ports of the machine lead to pods, as long as they do.
func TestDoors(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a := joined(t, n, "a")
	serve(t, n, "a", ":8080", "a")
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free.Close()
	portOf := func(l net.Listener) Port {
		at := l.Addr().(*net.TCPAddr).AddrPort()
		return Port{at.Addr(), at.Port(), TCP}
	}
	ends := []netip.AddrPort{netip.AddrPortFrom(a, 8080)}
	door := Service{At: portOf(free), Endpoints: ends, Machine: true}
	inside := Service{At: Port{netip.MustParseAddr("10.96.7.7"), 80, TCP}, Endpoints: ends}
	err = n.SetServices([]Service{{At: portOf(taken), Endpoints: ends, Machine: true}, door, inside})
	if !errors.Is(err, ErrDoor) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("another program is there: %v", err)
	}
	expect(t, n, "a", "10.96.7.7:80", "a to")
	enter := func() (string, error) {
		conn, err := net.Dial("tcp4", free.Addr().String())
		if err != nil {
			return "", err
		}
		defer conn.Close()
		got, err := io.ReadAll(conn)
		return string(got), err
	}
	if got, err := enter(); got != "a to "+n.gateway.String() {
		t.Errorf("got %q, %v", got, err)
	}
	go echo(taken) // what is no pod answers as well
	door.Endpoints = []netip.AddrPort{taken.Addr().(*net.TCPAddr).AddrPort()}
	if err := n.SetServices([]Service{door}); err != nil {
		t.Fatal(err)
	}
	if got, err := enter(); got != "echo" {
		t.Errorf("of this machine: got %q, %v", got, err)
	}
	door.Endpoints = nil
	if err := n.SetServices([]Service{door}); err != nil {
		t.Fatal(err)
	}
	if got, err := enter(); err == nil {
		t.Errorf("of nobody: got %q", got)
	}
	if err := n.SetServices(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := enter(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("closed: got %q, %v", got, err)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	config := DefaultConfig()
	config.Pods = netip.MustParsePrefix("10.244.0.0/29")
	n, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var got error
	count := 0
	for ; got == nil; count++ {
		_, got = n.Join(fmt.Sprint(count))
	}
	if count-1 != 5 || !errors.Is(got, ErrFull) {
		t.Errorf("%d pods, then %v", count-1, got)
	}
}

func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(conn, "echo")
		conn.Close()
	}
}

// ownAddress is one of this machine that is not for itself alone.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	t.Fatal("this machine has no address but loopback ones")
	return netip.Addr{}
}

func BenchmarkJoin(b *testing.B) { benchmarkJoin(b, newNetwork(b)) }

// BenchmarkJoinDual is BenchmarkJoin with IPv6.
func BenchmarkJoinDual(b *testing.B) { benchmarkJoin(b, newDual(b)) }

func benchmarkJoin(b *testing.B, n *Network) {
	for i := range b.N {
		if _, err := n.Join(fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJoinAgain(b *testing.B) { benchmarkJoinAgain(b, newNetwork(b)) }

// BenchmarkJoinAgainDual is BenchmarkJoinAgain with IPv6.
func BenchmarkJoinAgainDual(b *testing.B) { benchmarkJoinAgain(b, newDual(b)) }

func benchmarkJoinAgain(b *testing.B, n *Network) {
	for i := range 2 * enoughSpaces {
		joined(b, n, fmt.Sprint("first", i))
	}
	for i := range 2 * enoughSpaces {
		n.Leave(fmt.Sprint("first", i))
	}
	b.ResetTimer()
	for i := range b.N {
		uid := fmt.Sprint(i)
		joined(b, n, uid)
		n.Leave(uid)
	}
}

func BenchmarkNew(b *testing.B) { benchmarkNew(b, DefaultConfig()) }

// BenchmarkNewDual is BenchmarkNew with IPv6.
func BenchmarkNewDual(b *testing.B) {
	config := DefaultConfig()
	config.IPv6 = true
	benchmarkNew(b, config)
}

func benchmarkNew(b *testing.B, config Config) {
	for range b.N {
		n, err := New(config)
		if err != nil {
			b.Fatal(err)
		}
		n.Close()
	}
}

// BenchmarkServices is what it takes to make a thousand Services, and to change one of them.
func BenchmarkServices(b *testing.B) {
	n := newNetwork(b)
	var list []Service
	for i := range 1000 {
		at := Port{nth(n.config.Services, 100+i), 80, TCP}
		list = append(list, Service{At: at, Endpoints: []netip.AddrPort{netip.AddrPortFrom(nth(n.config.Pods, 10+i), 80), netip.AddrPortFrom(nth(n.config.Pods, 9+i), 80)}})
	}
	set := func(list []Service) {
		if err := n.SetServices(list); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("all", func(b *testing.B) {
		for range b.N {
			set(list)
			set(nil)
		}
	})
	set(list)
	b.Run("one", func(b *testing.B) {
		for i := range b.N {
			list[i%1000].Endpoints = list[i%1000].Endpoints[:2-i/1000%2]
			set(list)
		}
	})
}
