package dns

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// other is a name server that answers what answer says, nil: nothing, and counts who asks.
func other(t *testing.T, answer func(m *dnsmessage.Message)) (at string, asked *atomic.Int32) {
	t.Helper()
	conn, listener := listen(t)
	t.Cleanup(func() { conn.Close(); listener.Close() })
	asked = &atomic.Int32{}
	reply := func(message []byte) []byte {
		asked.Add(1)
		var m dnsmessage.Message
		if m.Unpack(message) != nil || answer == nil {
			return nil
		}
		m.Response, m.Additionals = true, nil
		answer(&m)
		packed, _ := m.Pack()
		return packed
	}
	go func() {
		buf := make([]byte, maxUDPMessage)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if packed := reply(buf[:n]); packed != nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if message, err := readMessage(conn); err == nil {
				_ = writeMessage(conn, reply(message))
			}
			conn.Close()
		}
	}()
	return conn.LocalAddr().String(), asked
}

// oneAddress answers with one address, whatever is asked for.
func oneAddress(m *dnsmessage.Message) {
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}},
		})
	}
}

func failsWith(code dnsmessage.RCode) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) {
		m.RCode = code
		(&answers{most: 1}).add(&m.Authorities, "example.com", &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns.example.com."), MBox: dnsmessage.MustNewName(".")})
	}
}

// askingOf returns a server that asks these.
func askingOf(t *testing.T, servers ...string) string {
	t.Helper()
	s := NewServer("/nowhere")
	s.SetZone(testZone())
	s.forward.servers, s.forward.read = servers, time.Now().Add(time.Hour)
	return serveAt(t, s)
}

// send asks a server by UDP and by TCP, and returns what it answers.
func send(t *testing.T, network, at string, message []byte) string {
	t.Helper()
	conn, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var answer []byte
	if network == "tcp" {
		if err = writeMessage(conn, message); err == nil {
			answer, err = readMessage(conn)
		}
	} else {
		answer = make([]byte, maxUDPMessage)
		var n int
		if _, err = conn.Write(message); err == nil {
			n, err = conn.Read(answer)
		}
		answer = answer[:n]
	}
	if err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	return show(t, answer)
}

// TestAnotherMayKnow: a server that fails, or will not, is not the last word.
func TestAnotherMayKnow(t *testing.T) {
	t.Parallel()
	good, _ := other(t, oneAddress)
	silent, _ := other(t, nil)
	for what, code := range map[string]dnsmessage.RCode{"fails": dnsmessage.RCodeServerFailure, "refuses": dnsmessage.RCodeRefused} {
		bad, _ := other(t, failsWith(code))
		if got := send(t, "udp", askingOf(t, bad, good), pack(t, "example.com", "A", 0)); got != "Success 192.0.2.7" {
			t.Errorf("when the first %s: %s", what, got)
		}
		if got := send(t, "udp", askingOf(t, bad, silent), pack(t, "example.com", "A", 0)); got != map[string]string{"fails": "ServerFailure", "refuses": "Refused"}[what] {
			t.Errorf("when the first %s, and nobody else knows: %s", what, got)
		}
	}
	no, asked := other(t, failsWith(dnsmessage.RCodeNameError))
	if got := send(t, "udp", askingOf(t, no, good), pack(t, "example.com", "A", 0)); got != "NameError" || asked.Load() != 1 {
		t.Errorf("that there is no such name is an answer: %s", got)
	}
}

// TestOtherNamesOfServices: what an ExternalName stands for is found together with it. A C
// library asks for no more than it is told.
func TestOtherNamesOfServices(t *testing.T) {
	t.Parallel()
	good, asked := other(t, oneAddress)
	bad, _ := other(t, failsWith(dnsmessage.RCodeNameError))
	for _, network := range []string{"udp", "tcp"} {
		at := askingOf(t, good)
		if got := send(t, network, at, pack(t, "out.ns.svc.cluster.local", "A", 0)); got != "Success 192.0.2.7 example.com." {
			t.Errorf("%s: %s", network, got)
		}
		before := asked.Load()
		if got := send(t, network, at, pack(t, "out.ns.svc.cluster.local", "CNAME", 0)); got != "Success example.com." || asked.Load() != before {
			t.Errorf("%s, who asks for the name only: %s", network, got)
		}
	}
	if got := send(t, "udp", askingOf(t, bad), pack(t, "out.ns.svc.cluster.local", "A", 0)); got != "NameError example.com." {
		t.Errorf("when there is no such name: %s", got)
	}
	if got := send(t, "udp", askingOf(t), pack(t, "out.ns.svc.cluster.local", "A", 0)); got != "ServerFailure" {
		t.Errorf("when nobody can be asked: %s", got)
	}
}

// TestServerDoesNotAskItself: a resolv.conf may name the server that reads it.
func TestServerDoesNotAskItself(t *testing.T) {
	t.Parallel()
	s := NewServer("/nowhere")
	at := serveAt(t, s)
	good, _ := other(t, oneAddress)
	s.forward.mu.Lock()
	s.forward.servers, s.forward.read = []string{at, good}, time.Now().Add(time.Hour)
	s.forward.mu.Unlock()
	if got := send(t, "udp", at, pack(t, "example.com", "A", 0)); got != "Success 192.0.2.7" {
		t.Errorf("got %s", got)
	}
	if got := s.forward.now(); slices.Contains(got, at) {
		t.Errorf("it asks %v", got)
	}
}
