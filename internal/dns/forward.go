package dns

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// forwarder asks the machine's own name servers.
type forwarder struct {
	resolv string

	mu      sync.Mutex
	read    time.Time // when servers were read
	changed time.Time // when the file was
	servers []string
	own     []string // where the server itself is asked
}

const (
	askTime  = 2 * time.Second // as long as an answer is waited for, of each server
	readTime = time.Second     // how old what was read of the file may be
	// maxServers is what a C library asks, too.
	maxServers = 3
)

func newForwarder(resolv string) *forwarder { return &forwarder{resolv: resolv} }

// ask returns the answer of the first server that has one, nil if none has. That a server has
// failed, or will not answer, is told only when none of the others knows better.
func (f *forwarder) ask(ctx context.Context, network string, message []byte) (answer []byte) {
	for _, server := range f.now() {
		said := ask(ctx, network, server, message)
		if said != nil {
			answer = said
		}
		if ctx.Err() != nil || said != nil && knows(said) {
			break
		}
	}
	return answer
}

// knows reports whether an answer is one: that there is no such name is.
func knows(answer []byte) bool {
	switch dnsmessage.RCode(answer[3] & 0xf) {
	case dnsmessage.RCodeServerFailure, dnsmessage.RCodeNotImplemented, dnsmessage.RCodeRefused:
		return false
	}
	return true
}

// isAt notes where the server is asked, so that it does not ask itself.
func (f *forwarder) isAt(addresses ...net.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range addresses {
		f.own = append(f.own, at.String())
	}
}

// now returns the addresses of the servers.
func (f *forwarder) now() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.inFile()
	if !slices.ContainsFunc(all, f.isOwn) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), f.isOwn)
}

func (f *forwarder) isOwn(server string) bool { return slices.Contains(f.own, server) }

// inFile returns the servers that the file has; f is locked.
func (f *forwarder) inFile() []string {
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

// outside returns the name elsewhere that the name asked for stands for, if its addresses are
// asked for: the zone alone does not know them.
func (z *Zone) outside(q *question) (name string, ok bool) {
	if q.Class != dnsmessage.ClassINET || q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA || !owns(q.name) {
		return "", false
	}
	r := z.find(q.name)
	if r == nil || r.alias == "" || owns(r.alias) {
		return "", false
	}
	return r.alias, true
}

// elsewhere returns the answer to a question that is not the zone's, or not the zone's alone,
// of no more than size bytes.
func (s *Server) elsewhere(ctx context.Context, network string, q *question, size int, message []byte) []byte {
	var answer []byte
	if target, ok := s.zone.Load().outside(q); ok {
		answer = s.follow(ctx, network, q, size, target)
	} else {
		answer = s.forward.ask(ctx, network, message)
	}
	if answer == nil {
		return q.fail(dnsmessage.RCodeServerFailure)
	}
	return answer
}

// follow answers with the name that a Service stands for, and with what others say of that:
// a C library asks for no more than it is told.
func (s *Server) follow(ctx context.Context, network string, q *question, size int, target string) []byte {
	name, err := dnsmessage.NewName(target + ".")
	if err != nil {
		return nil
	}
	ask := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.header.ID, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: q.Type, Class: q.Class}},
	}
	message, err := ask.Pack()
	if err != nil {
		return nil
	}
	var said dnsmessage.Message
	if answer := s.forward.ask(ctx, network, message); answer == nil || said.Unpack(answer) != nil {
		return nil
	}
	return q.reply(size, said.RCode, func(a *answers) {
		a.alias(q, target)
		for _, r := range said.Answers {
			if r.Header.Type == q.Type || r.Header.Type == dnsmessage.TypeCNAME {
				a.answered = append(a.answered, r)
			}
		}
	})
}
