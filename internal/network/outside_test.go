package network

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/share"
)

// listenOutside listens where pods get to by the way out, and hands over the connections that come.
func listenOutside(t *testing.T) (at netip.AddrPort, accepted chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", netip.AddrPortFrom(ownAddress(t), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	accepted = make(chan net.Conn, 1000)
	go func() {
		defer close(accepted)
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			accepted <- conn
		}
	}()
	t.Cleanup(func() {
		l.Close()
		for conn := range accepted {
			conn.Close()
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort(), accepted
}

// dialFrom has a pod connect.
func dialFrom(t *testing.T, n *Network, uid string, to netip.AddrPort) net.Conn {
	t.Helper()
	ns, err := n.Namespace(uid)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := n.dial(t.Context(), ns, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// sendFrom has a pod send packets to a server from as many sockets.
func sendFrom(t *testing.T, n *Network, uid string, to net.Addr, sockets int) {
	t.Helper()
	inside(t, n, uid, func() {
		for range sockets {
			conn, err := net.Dial("udp4", to.String())
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { conn.Close() })
			fmt.Fprint(conn, "hello")
		}
	})
}

func (o *outside) flowCount() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.flows)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// pipes is how many ends of pipes this process has open.
func pipes(t *testing.T) (count int) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "pipe:") {
			count++
		}
	}
	return count
}

// TestWhatIsSilentCostsLittle has a pod hold connections and flows on which nothing is said, or to
// somebody who does not listen: neither files beyond their sockets nor buffers are kept for them. It
// is not parallel to others: their memory would be counted.
func TestWhatIsSilentCostsLittle(t *testing.T) {
	n := newNetwork(t)
	joined(t, n, "client")
	to, accepted := listenOutside(t)
	server, err := net.ListenPacket("udp4", netip.AddrPortFrom(to.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	had := pipes(t)
	const count = 150
	chunk := make([]byte, 64<<10)
	for range count {
		conn := dialFrom(t, n, "client", to)
		other := <-accepted
		defer other.Close()
		fmt.Fprint(conn, "hello")
		if _, err := io.ReadFull(other, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		_ = other.(*net.TCPConn).SetReadBuffer(4096)
		_ = conn.(*net.TCPConn).SetWriteBuffer(4096)
		_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		_, _ = conn.Write(chunk)
	}
	sendFrom(t, n, "client", server.LocalAddr(), count)
	eventually(t, "there are as many flows as were begun", func() bool { return n.outside.flowCount() == count })
	if more := pipes(t) - had; more > 0 {
		t.Errorf("%d connections have %d ends of pipes", count, more)
	}
	runtime.GC()
	runtime.GC() // a sync.Pool is emptied by the second
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse); grown > 4<<20 {
		t.Errorf("%d connections and as many flows: %d KiB", count, grown>>10)
	}
}

// TestOnePodIsNotAll has a pod take all that it gets of the way out: another gets out.
func TestOnePodIsNotAll(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	joined(t, n, "greedy")
	joined(t, n, "other")
	n.outside.mu.Lock()
	n.outside.places = share.New[netip.Addr](40)
	n.outside.mu.Unlock()
	to, accepted := listenOutside(t)
	server, err := net.ListenPacket("udp4", netip.AddrPortFrom(to.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sendFrom(t, n, "greedy", server.LocalAddr(), 4)
	eventually(t, "the flows are there", func() bool { return n.outside.flowCount() == 4 })
	for range 4 {
		dialFrom(t, n, "greedy", to)
		defer (<-accepted).Close()
	}
	for range 30 {
		if _, err := ask(t, n, "greedy", to.String()); err == nil || !strings.Contains(err.Error(), "reset") {
			t.Fatalf("one more than a fifth: %v", err)
		}
	}
	conn := dialFrom(t, n, "other", to)
	other := <-accepted
	defer other.Close()
	fmt.Fprint(other, "echo")
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Errorf("another pod: %v", err)
	}
}

// TestLeaveEndsAll has a pod leave: what it had to do with the outside ends, which else would reach
// the next pod with its address. Nobody is taken out who is no pod.
func TestLeaveEndsAll(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	ip := joined(t, n, "client")
	joined(t, n, "other")
	to, accepted := listenOutside(t)
	server, err := net.ListenPacket("udp4", netip.AddrPortFrom(to.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	dialFrom(t, n, "client", to)
	gone := <-accepted
	defer gone.Close()
	stays := dialFrom(t, n, "other", to)
	goesOn := <-accepted
	defer goesOn.Close()
	sendFrom(t, n, "client", server.LocalAddr(), 3)
	sendFrom(t, n, "other", server.LocalAddr(), 2)
	eventually(t, "the flows are there", func() bool { return n.outside.flowCount() == 5 })
	n.Leave("client")
	eventually(t, "two flows are left", func() bool { return n.outside.flowCount() == 2 })
	_ = gone.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := gone.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection of the pod that has left: %v", err)
	}
	fmt.Fprint(goesOn, "echo")
	if _, err := io.ReadFull(stays, make([]byte, 4)); err != nil {
		t.Errorf("that of the other: %v", err)
	}
	for _, nobody := range []netip.Addr{ip, netip.MustParseAddr("10.244.200.200"), netip.MustParseAddr("192.0.2.1")} {
		if _, _, ok := n.outside.take(nobody); ok {
			t.Errorf("%s is taken out", nobody)
		}
	}
}

// TestBothWays has two connections joined: all of a lot arrives, in order, at a reader that is slow now
// and then, and so does its end, while the other way goes on.
func TestBothWays(t *testing.T) {
	t.Parallel()
	near, pod := pair(t)
	far, outside := pair(t)
	go join(t.Context(), pod, outside)
	want := make([]byte, 8<<20)
	for i := range want {
		want[i] = byte(i % 251)
	}
	go func() {
		if _, err := near.Write(want); err != nil {
			t.Error(err)
		}
		_ = near.CloseWrite()
	}()
	var got []byte
	for buf := make([]byte, 30_011); ; {
		k, err := far.Read(buf)
		got = append(got, buf[:k]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(got)%97 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes have come, which are not the %d that were sent", len(got), len(want))
	}
	fmt.Fprint(far, "late")
	far.Close()
	if got, err := io.ReadAll(near); string(got) != "late" {
		t.Errorf("the other way: %q, %v", got, err)
	}
}

// pair returns the two ends of a connection.
func pair(tb testing.TB) (near, far *net.TCPConn) {
	tb.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close(); other.Close() })
	for _, c := range []net.Conn{conn, other} {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
	}
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

// BenchmarkPass is how much goes through, in pieces of 64 KiB and of 100 bytes that are answered.
func BenchmarkPass(b *testing.B) {
	for _, size := range []int{64 << 10, 100} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			near, pod := pair(b)
			far, outside := pair(b)
			go join(b.Context(), pod, outside)
			b.SetBytes(int64(size))
			if size == 100 {
				go func() { _, _ = io.Copy(far, struct{ io.Reader }{far}) }()
			} else {
				go func() { _, _ = io.Copy(io.Discard, far) }()
			}
			buf := make([]byte, size)
			for b.Loop() {
				if _, err := near.Write(buf); err != nil {
					b.Fatal(err)
				}
				if size == 100 {
					if _, err := io.ReadFull(near, buf); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
