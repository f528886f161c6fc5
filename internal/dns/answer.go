package dns

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// version is that of the specification, which TXT dns-version.cluster.local says.
const version = "1.1.0"

// question is a message that asks one thing.
type question struct {
	header dnsmessage.Header
	dnsmessage.Question
	name string // in lower case, without the dot at its end
	// size is how long an answer by UDP may be.
	size int
	edns bool
}

const (
	minSize = 512  // of an answer by UDP that everybody takes
	maxSize = 1232 // that passes everywhere without being cut in pieces
)

// parse reads a message. ok is false for what is no question that can be answered.
func parse(message []byte) (q question, ok bool) {
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(message); err != nil || q.header.Response || q.header.OpCode != 0 {
		return q, false
	}
	if q.Question, err = p.Question(); err != nil {
		return q, false
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return q, false
	}
	q.name = strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	q.size = minSize
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q, true
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return q, true
		}
		if h.Type == dnsmessage.TypeOPT {
			q.edns, q.size = true, min(max(int(h.Class), minSize), maxSize)
		}
		if p.SkipAdditional() != nil {
			return q, true
		}
	}
}

// answer returns the zone's answer to a question, of no more than size bytes. It is nil when
// the question is not the zone's, or not the zone's alone.
func (z *Zone) answer(q *question, size int) []byte {
	if ip, ok := addressOf(q.name); ok {
		names := z.reverse[ip]
		if len(names) == 0 {
			return nil
		}
		return q.reply(size, dnsmessage.RCodeSuccess, func(a *answers) {
			if q.asks(dnsmessage.TypePTR) {
				for _, name := range names {
					a.pointer(q, name)
				}
			}
		})
	}
	if _, outside := z.outside(q); outside || !owns(q.name) {
		return nil
	}
	r := z.find(q.name)
	if r == nil && q.name != "dns-version."+Domain {
		return q.reply(size, dnsmessage.RCodeNameError, func(*answers) {})
	}
	return q.reply(size, dnsmessage.RCodeSuccess, func(a *answers) {
		switch {
		case r == nil:
			if q.asks(dnsmessage.TypeTXT) {
				a.text(q, version)
			}
		case q.name == Domain && q.asks(dnsmessage.TypeSOA):
			a.authority(&a.answered)
		case q.name == Domain && q.asks(dnsmessage.TypeNS):
			a.server(z.find(serverName).addresses)
		default:
			z.tell(q, r, a)
		}
	})
}

// tell writes the records of a name that are asked for.
func (z *Zone) tell(q *question, r *records, a *answers) {
	if r.alias != "" {
		a.alias(q, r.alias)
		if target := z.find(r.alias); target != nil && target.alias == "" {
			a.addresses(q, r.alias, target.addresses)
		}
		return
	}
	a.addresses(q, q.Name.String(), r.addresses)
	if !q.asks(dnsmessage.TypeSRV) {
		return
	}
	list := r.targets(a.most)
	for _, t := range list {
		a.service(q, t, uint16(max(1, 100/len(list))))
		if target := z.find(t.name); target != nil {
			a.more(t.name, target.addresses)
		}
	}
}

// target is what one record of type SRV says.
type target struct {
	name string
	port uint16
}

// targets returns what the records of type SRV say, each once, of more than most only one more.
func (r *records) targets(most int) (list []target) {
	known := make(map[target]bool)
	looked := 0
	for _, s := range r.services {
		for _, name := range s.targets {
			if looked++; looked > maxRecords || len(list) > most {
				return list
			}
			if t := (target{name, s.port}); !known[t] {
				known[t] = true
				list = append(list, t)
			}
		}
	}
	return list
}

func (q *question) asks(t dnsmessage.Type) bool {
	return q.Class == dnsmessage.ClassINET && (q.Type == t || q.Type == dnsmessage.TypeALL)
}

// answers are the records of an answer, before they are written.
type answers struct {
	answered, extra []dnsmessage.Resource
	most            int  // of either: more will not fit
	cut             bool // some were asked for, and are not there
}

// smallest is how long a record is at least: that of an address, with a name that the answer has already.
const smallest = 16

func header(name string, class dnsmessage.Class) (dnsmessage.ResourceHeader, bool) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	return dnsmessage.ResourceHeader{Name: n, Class: class, TTL: TTL}, err == nil
}

func (a *answers) add(to *[]dnsmessage.Resource, name string, body dnsmessage.ResourceBody) {
	if len(*to) >= a.most {
		a.cut = a.cut || to == &a.answered
		return
	}
	if h, ok := header(name, dnsmessage.ClassINET); ok {
		*to = append(*to, dnsmessage.Resource{Header: h, Body: body})
	}
}

// addresses adds those that are asked for, in an order that differs each time: clients take
// the first.
func (a *answers) addresses(q *question, name string, list []netip.Addr) {
	for _, i := range rand.Perm(len(list)) {
		switch ip := list[i]; {
		case ip.Is4() && q.asks(dnsmessage.TypeA):
			a.add(&a.answered, name, &dnsmessage.AResource{A: ip.As4()})
		case ip.Is6() && q.asks(dnsmessage.TypeAAAA):
			a.add(&a.answered, name, &dnsmessage.AAAAResource{AAAA: ip.As16()})
		}
	}
}

// more adds addresses that nobody has asked for yet.
func (a *answers) more(name string, list []netip.Addr) {
	for _, ip := range list[:min(len(list), a.most-len(a.extra))] {
		if ip.Is4() {
			a.add(&a.extra, name, &dnsmessage.AResource{A: ip.As4()})
		} else {
			a.add(&a.extra, name, &dnsmessage.AAAAResource{AAAA: ip.As16()})
		}
	}
}

func (a *answers) alias(q *question, to string) {
	if name, err := dnsmessage.NewName(to + "."); err == nil {
		a.add(&a.answered, q.Name.String(), &dnsmessage.CNAMEResource{CNAME: name})
	}
}

func (a *answers) pointer(q *question, to string) {
	if name, err := dnsmessage.NewName(to + "."); err == nil {
		a.add(&a.answered, q.Name.String(), &dnsmessage.PTRResource{PTR: name})
	}
}

func (a *answers) text(q *question, text string) {
	a.add(&a.answered, q.Name.String(), &dnsmessage.TXTResource{TXT: []string{text}})
}

func (a *answers) service(q *question, t target, weight uint16) {
	if name, err := dnsmessage.NewName(t.name + "."); err == nil {
		a.add(&a.answered, q.Name.String(), &dnsmessage.SRVResource{Weight: weight, Port: t.port, Target: name})
	}
}

// server adds who answers for the zone, and where.
func (a *answers) server(addresses []netip.Addr) {
	a.add(&a.answered, Domain, &dnsmessage.NSResource{NS: dnsmessage.MustNewName(serverName + ".")})
	a.more(serverName, addresses)
}

// authority adds who is responsible for the zone.
func (a *answers) authority(to *[]dnsmessage.Resource) {
	a.add(to, Domain, &dnsmessage.SOAResource{
		NS: dnsmessage.MustNewName(serverName + "."), MBox: dnsmessage.MustNewName("hostmaster." + Domain + "."),
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, MinTTL: TTL,
	})
}

// reply writes an answer. What does not fit is left out, and the client is told to ask again
// by TCP.
func (q *question) reply(size int, code dnsmessage.RCode, write func(*answers)) []byte {
	a := answers{most: size / smallest}
	write(&a)
	h := dnsmessage.Header{
		ID: q.header.ID, Response: true, Authoritative: true, RCode: code,
		RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, Truncated: a.cut,
	}
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{q.Question}, Answers: a.answered, Additionals: a.extra}
	if len(a.answered) == 0 {
		a.authority(&m.Authorities)
	}
	if q.edns {
		m.Additionals = append(m.Additionals, option())
	}
	packed, err := m.Pack()
	if err == nil && len(packed) > size && len(a.extra) > 0 {
		m.Additionals = nil
		if q.edns {
			m.Additionals = []dnsmessage.Resource{option()}
		}
		packed, err = m.Pack()
	}
	for err == nil && len(packed) > size && len(m.Answers) > 0 {
		m.Truncated = true
		m.Answers = m.Answers[:len(m.Answers)/2]
		packed, err = m.Pack()
	}
	if err != nil {
		return q.fail(dnsmessage.RCodeServerFailure)
	}
	return packed
}

// option is what answers a client that speaks EDNS.
func option() dnsmessage.Resource {
	var h dnsmessage.ResourceHeader
	_ = h.SetEDNS0(maxSize, dnsmessage.RCodeSuccess, false)
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}}
}

// fail is an answer without any record.
func (q *question) fail(code dnsmessage.RCode) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, RCode: code,
			RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q.Question},
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}
