package network

import (
	"fmt"
	"net/netip"
	"slices"
)

// Policies say who may exchange what with the pods of the node that are not open to all: those
// that NetworkPolicies select. It is what is left of these when names, labels and namespaces have
// become addresses.
type Policies struct {
	// Ingress and Egress have the pods of the node that may not be reached by all, or may not reach
	// all, each with the name of its list of rules.
	Ingress, Egress map[netip.Addr]string
	Lists           map[string][]Rule
	// Groups are addresses that rules name. A group changes without the rules.
	Groups map[string][]netip.Addr
	// Hosts are the addresses that nodes have among pods. What comes from there is let through: it
	// is the machine itself, with its probes and its ports.
	Hosts []netip.Addr
}

// Rule lets something through. All that it says has to hold.
type Rule struct {
	// Ingress: the other side is who sends, else who is sent to.
	Ingress bool `json:",omitempty"`
	// Group is who the other side is; "": whoever is in Block, or, if that is invalid, everybody.
	Group string       `json:",omitempty"`
	Block netip.Prefix `json:",omitzero"`
	// Except are parts of the Block that it does not let through.
	Except []netip.Prefix `json:",omitempty"`
	// Protocol is 0 for all that there are.
	Protocol Protocol `json:",omitempty"`
	// First and Last are ports of the side that is connected to; both are 0 for all.
	First, Last uint16 `json:",omitempty"`
}

// SCTP is a protocol that only policies know.
const SCTP Protocol = 132

// maxRules bounds what a table of policies may ask of the kernel.
const (
	maxRules     = 1 << 16
	maxAddresses = 1 << 20
)

// check refuses what would not fit.
func (p *Policies) check() error {
	rules, addresses := 0, len(p.Ingress)+len(p.Egress)+len(p.Hosts)
	for _, list := range p.Lists {
		rules += len(list)
		for i := range list {
			if g := list[i].Group; g != "" && p.Groups[g] == nil {
				return fmt.Errorf("a rule names the group %q, which there is not", g)
			}
			rules += len(list[i].Except)
		}
	}
	for _, group := range p.Groups {
		addresses += len(group)
	}
	for _, of := range []map[netip.Addr]string{p.Ingress, p.Egress} {
		for _, name := range of {
			if _, ok := p.Lists[name]; !ok {
				return fmt.Errorf("a pod has the list of rules %q, which there is not", name)
			}
		}
	}
	if rules > maxRules || addresses > maxAddresses {
		return fmt.Errorf("%d rules about %d addresses: at most %d and %d are enforced", rules, addresses, maxRules, maxAddresses)
	}
	return nil
}

// allows tells whether a pod may reach an address, or be reached from it, by the lists of its
// direction.
func (p *Policies) allows(lists map[netip.Addr]string, pod, other netip.Addr, protocol Protocol, port uint16) bool {
	name, ok := lists[pod]
	if !ok {
		return true
	}
	return slices.ContainsFunc(p.Lists[name], func(r Rule) bool { return p.matches(&r, other, protocol, port) })
}

// IPv4 returns what the policies say of addresses of IPv4.
func (p *Policies) IPv4() *Policies { return p.of(&ipv4) }

// of returns what the policies say of one family. A rule about a range of the other lets nothing
// through here.
func (p *Policies) of(f *family) *Policies {
	only := func(list []netip.Addr) []netip.Addr {
		own := []netip.Addr{}
		for _, a := range list {
			if familyOf(a) == f {
				own = append(own, a)
			}
		}
		return own
	}
	own := Policies{
		Ingress: make(map[netip.Addr]string), Egress: make(map[netip.Addr]string), Hosts: only(p.Hosts),
		Lists: make(map[string][]Rule), Groups: make(map[string][]netip.Addr),
	}
	for _, lists := range []struct{ from, to map[netip.Addr]string }{{p.Ingress, own.Ingress}, {p.Egress, own.Egress}} {
		for a, name := range lists.from {
			if familyOf(a) != f {
				continue
			}
			lists.to[a] = name
			if own.Lists[name] == nil {
				own.Lists[name] = rulesOf(p.Lists[name], f)
			}
		}
	}
	for _, list := range own.Lists {
		for i := range list {
			if g := list[i].Group; g != "" && own.Groups[g] == nil {
				own.Groups[g] = only(p.Groups[g])
			}
		}
	}
	return &own
}

func rulesOf(list []Rule, f *family) []Rule {
	own := []Rule{}
	for i := range list {
		r := list[i]
		if r.Block.IsValid() && familyOf(r.Block.Addr()) != f {
			continue
		}
		r.Except = slices.DeleteFunc(slices.Clone(r.Except), func(e netip.Prefix) bool { return familyOf(e.Addr()) != f })
		own = append(own, r)
	}
	return own
}

// lets tells whether a pod may reach an address that this process reaches in its place.
func (n *Network) lets(pod netip.Addr, to netip.AddrPort) bool {
	r := n.of(pod)
	return r == nil || r.lets(pod, to)
}

// admits tells whether a pod may be reached from an address outside.
func (n *Network) admits(from netip.Addr, pod netip.AddrPort) bool {
	r := n.of(pod.Addr())
	return r == nil || r.admits(from, pod)
}

func (p *Policies) matches(r *Rule, other netip.Addr, protocol Protocol, port uint16) bool {
	switch {
	case r.Protocol != 0 && r.Protocol != protocol:
		return false
	case r.Last != 0 && (port < r.First || port > r.Last):
		return false
	case r.Group != "":
		_, ok := slices.BinarySearchFunc(p.Groups[r.Group], other, netip.Addr.Compare)
		return ok
	case r.Block.IsValid():
		return r.Block.Contains(other) && !slices.ContainsFunc(r.Except, func(e netip.Prefix) bool { return e.Contains(other) })
	}
	return true
}

// SetPolicies makes the policies these, at once. Connections that there are go on.
func (n *Network) SetPolicies(p *Policies) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("network: set the policies: %w", err)
	}
	for _, group := range p.Groups {
		slices.SortFunc(group, netip.Addr.Compare)
	}
	for _, r := range []*rules{n.rules, n.rules6} {
		if r == nil {
			continue
		}
		if err := r.police(p.of(r.family)); err != nil {
			return fmt.Errorf("network: set the policies: %w", err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.pods {
		_, ok := p.Egress[s.address]
		if _, ok6 := p.Egress[s.address6]; ok || ok6 {
			if err := n.ownLocked(s); err != nil {
				return err
			}
		}
	}
	return nil
}
