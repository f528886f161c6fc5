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
	if err := n.rules.police(p); err != nil {
		return fmt.Errorf("network: set the policies: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.pods {
		if _, ok := p.Egress[s.address]; ok {
			if err := n.ownLocked(s); err != nil {
				return err
			}
		}
	}
	return nil
}
