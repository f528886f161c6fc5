package dns

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// forwarder asks the machine's own name servers.
type forwarder struct {
	resolv string

	mu      sync.Mutex
	read    time.Time // when servers were read
	changed time.Time // when the file was
	servers []string
}

const (
	askTime  = 2 * time.Second // as long as an answer is waited for, of each server
	readTime = time.Second     // how old what was read of the file may be
	// maxServers is what a C library asks, too.
	maxServers = 3
)

func newForwarder(resolv string) *forwarder { return &forwarder{resolv: resolv} }

// ask returns the answer of the first server that has one, nil if none has.
func (f *forwarder) ask(ctx context.Context, network string, message []byte) []byte {
	for _, server := range f.now() {
		if answer := ask(ctx, network, server, message); answer != nil {
			return answer
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil
}

// now returns the addresses of the servers.
func (f *forwarder) now() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.read) < readTime {
		return f.servers
	}
	f.read = time.Now()
	st, err := os.Stat(f.resolv)
	if err != nil {
		f.servers = nil
		return nil
	}
	if st.ModTime().Equal(f.changed) {
		return f.servers
	}
	text, err := os.ReadFile(f.resolv)
	if err == nil {
		f.changed, f.servers = st.ModTime(), Servers(string(text))
	}
	return f.servers
}

// Servers returns the addresses and ports of the name servers in a resolv.conf.
func Servers(resolv string) []string {
	var list []string
	for line := range strings.Lines(resolv) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(list) == maxServers {
			continue
		}
		if ip, err := netip.ParseAddr(fields[1]); err == nil {
			list = append(list, netip.AddrPortFrom(ip, 53).String())
		}
	}
	return list
}

// ask asks one server.
func ask(ctx context.Context, network, server string, message []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if network == "tcp" {
		if writeMessage(conn, message) != nil {
			return nil
		}
		answer, err := readMessage(conn)
		if err != nil || !answersTo(message, answer) {
			return nil
		}
		return answer
	}
	if _, err := conn.Write(message); err != nil {
		return nil
	}
	buf := make([]byte, maxUDPMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil
		}
		if answersTo(message, buf[:n]) {
			return buf[:n]
		}
	}
}

// answersTo tells whether a message is the answer to another: it has its number, and
// repeats its question. The socket has a port of its own, which nobody can guess either.
func answersTo(asked, answer []byte) bool {
	const head = 12
	if len(answer) < head || !bytes.Equal(asked[:2], answer[:2]) || answer[2]&0x80 == 0 {
		return false
	}
	q, ok := parse(asked)
	if !ok {
		return false
	}
	answer = bytes.Clone(answer)
	answer[2] &^= 0x80 // as if it was a question
	a, ok := parse(answer)
	return ok && a.name == q.name && a.Type == q.Type && a.Class == q.Class
}
