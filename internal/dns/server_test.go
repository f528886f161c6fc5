package dns

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// listen takes a port of 127.0.0.1 that is free by UDP and by TCP: what is given by the one may be
// somebody's by the other.
func listen(t *testing.T) (udp net.PacketConn, tcp net.Listener) {
	t.Helper()
	for range 100 {
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp4", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		udp.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatal("no port is free")
	return nil, nil
}

// serveAt has a server answer at a port of 127.0.0.1, by UDP and TCP.
func serveAt(t *testing.T, s *Server) string {
	t.Helper()
	udp, tcp := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		s.Serve(ctx, udp, tcp)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return udp.LocalAddr().String()
}

// resolver asks a server, as programs written in Go do.
func resolver(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, server)
	}}
}

// TestServer asks for the cluster's names, and through it for those of another server.
func TestServer(t *testing.T) {
	t.Parallel()
	upstream := NewServer("/nowhere")
	upstream.SetZone(testZone())
	s := NewServer("/nowhere")
	s.forward.servers, s.forward.read = []string{"127.0.0.1:1", serveAt(t, upstream)}, time.Now().Add(time.Hour)
	r := resolver(serveAt(t, s))
	if _, err := r.LookupHost(t.Context(), "redis.ns.svc.cluster.local."); err == nil || !err.(*net.DNSError).IsNotFound {
		t.Errorf("a name of the cluster was asked for elsewhere: %v", err)
	}
	// The other one knows a reverse name that this one does not.
	if got, err := r.LookupAddr(t.Context(), "10.96.3.4"); err != nil || !slices.Equal(got, []string{"redis.ns.svc.cluster.local."}) {
		t.Errorf("got %v, %v", got, err)
	}
	s.SetZone(testZone())
	if got, err := r.LookupHost(t.Context(), "redis.ns.svc.cluster.local."); err != nil || !slices.Equal(got, []string{"10.96.3.4"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, got, err := r.LookupSRV(t.Context(), "pg", "tcp", "db.ns.svc.cluster.local."); err != nil || len(got) != 2 || got[0].Port != 5432 {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestNobodyToAsk: a client is told at once.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	s := NewServer(filepath.Join(t.TempDir(), "resolv.conf"))
	at := serveAt(t, s)
	for _, network := range []string{"udp", "tcp"} {
		conn, err := net.Dial(network, at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		message, answer := pack(t, "example.com", "A", 0), make([]byte, 512)
		if network == "tcp" {
			_ = writeMessage(conn, message)
			answer, err = readMessage(conn)
		} else {
			_, _ = conn.Write(message)
			var n int
			n, err = conn.Read(answer)
			answer = answer[:n]
		}
		if err != nil || show(t, answer) != "ServerFailure" {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// TestServersOfMachine reads whom to ask anew when the file changes.
func TestServersOfMachine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	f := newForwarder(path)
	write("# a comment\nsearch x\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver what\nnameserver 127.0.0.53\nnameserver 192.0.2.9\n", time.Unix(1, 0))
	want := []string{"192.0.2.1:53", "[fe80::1%eth0]:53", "127.0.0.53:53"}
	if got := f.now(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	write("nameserver 192.0.2.2\n", time.Unix(2, 0))
	if got := f.now(); !slices.Equal(got, want) {
		t.Errorf("within a second: %v", got)
	}
	f.read = time.Time{}
	if got := f.now(); !slices.Equal(got, []string{"192.0.2.2:53"}) {
		t.Errorf("got %v", got)
	}
}

// TestAnswersTo takes no answer for another's.
func TestAnswersTo(t *testing.T) {
	t.Parallel()
	asked := pack(t, "example.com", "A", 0)
	q, _ := parse(asked)
	good := q.fail(0)
	if !answersTo(asked, good) {
		t.Error("an answer was not taken")
	}
	number := slices.Clone(good)
	number[1]++
	other, _ := parse(pack(t, "example.org", "A", 0))
	for what, answer := range map[string][]byte{
		"a question": asked, "another number": number, "another name": other.fail(0), "nothing": nil, "half of it": good[:len(good)/2],
	} {
		if answersTo(asked, answer) {
			t.Errorf("%s was taken for an answer", what)
		}
	}
}
