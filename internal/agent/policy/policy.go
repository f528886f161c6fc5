// Package policy says what NetworkPolicies let through, as a network plugin does on a node of
// Kubernetes: it turns them, with the pods and namespaces that they select, into rules about
// addresses, which a runner is told (runner.Runner.SetPolicies). It is pure.
//
// A rule that selects pods names a group, whose addresses come and go with pods; rules change
// with policies alone. So the kernel hears of little when a pod starts.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sampan-batch/sampan/internal/network"
)

// World is what there is in the cluster: all of it, if there is any policy.
type World struct {
	Policies   []*networkingv1.NetworkPolicy
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
}

// Node is what the node knows of itself.
type Node struct {
	Name string
	// Pods are the addresses that its own pods have, by uid. Their status may say so later.
	Pods map[string][]netip.Addr
	// IsPod tells whether an address is in a range of pods' addresses.
	IsPod func(netip.Addr) bool
	// Names is where names are asked for. Policies that let pods ask select, elsewhere, the pods
	// of kube-dns; here there are none, and this address stands for them.
	Names netip.Addr
	// Hosts are the addresses of this machine's nodes among pods.
	Hosts []netip.Addr
}

// Selects tells whether any of the policies is about a pod.
func Selects(policies []*networkingv1.NetworkPolicy, pod *corev1.Pod) bool {
	return slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool {
		return p.Namespace == pod.Namespace && selector(&p.Spec.PodSelector).Matches(labels.Set(pod.Labels))
	})
}

// Table returns what the policies let through to and from the pods of the node.
func Table(node *Node, w *World) network.Policies {
	t := table{node: node, namespaces: make(map[string]labels.Set, len(w.Namespaces)), out: network.Policies{
		Ingress: map[netip.Addr]string{}, Egress: map[netip.Addr]string{}, Hosts: node.Hosts,
		Lists: map[string][]network.Rule{}, Groups: map[string][]netip.Addr{},
	}}
	if len(w.Policies) == 0 {
		return t.out
	}
	for _, ns := range w.Namespaces {
		t.namespaces[ns.Name] = labels.Set(ns.Labels)
	}
	t.peers = append(t.peers, names(node.Names))
	for _, pod := range w.Pods {
		for _, at := range node.addresses(pod) {
			t.peers = append(t.peers, peer{pod, at})
		}
	}
	of := make(map[string][]*networkingv1.NetworkPolicy)
	for _, p := range w.Policies {
		of[p.Namespace] = append(of[p.Namespace], p)
	}
	for _, local := range t.peers {
		if local.pod.Spec.NodeName == node.Name {
			t.add(local, of[local.pod.Namespace])
		}
	}
	return t.out
}

// peer is a pod with one of the addresses of its own. All that is said of the pod is said of each.
type peer struct {
	pod *corev1.Pod
	at  netip.Addr
}

// names is the pod that answers for the cluster's names, as far as policies go.
func names(at netip.Addr) peer {
	return peer{&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-dns", Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", ContainerPort: 53, Protocol: corev1.ProtocolTCP},
		}}}},
	}, at}
}

// addresses returns those of a pod which has some of its own.
func (n *Node) addresses(pod *corev1.Pod) (list []netip.Addr) {
	if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	if pod.Spec.NodeName == n.Name {
		return n.Pods[string(pod.UID)]
	}
	ips := pod.Status.PodIPs
	if len(ips) == 0 { // it was stored by who knew of one
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, ip := range ips {
		if at, err := netip.ParseAddr(ip.IP); err == nil && n.IsPod(at) {
			list = append(list, at)
		}
	}
	return list
}

// table is a Table that is being made.
type table struct {
	node       *Node
	namespaces map[string]labels.Set
	peers      []peer
	out        network.Policies
}

// add adds a pod of the node, with the policies of its namespace.
func (t *table) add(local peer, policies []*networkingv1.NetworkPolicy) {
	var in, out []network.Rule
	ingress, egress := false, false
	for _, p := range policies {
		if !selector(&p.Spec.PodSelector).Matches(labels.Set(local.pod.Labels)) {
			continue
		}
		if concerns(p, networkingv1.PolicyTypeIngress) {
			ingress = true
			for i := range p.Spec.Ingress {
				in = append(in, t.ingress(p.Namespace, local, &p.Spec.Ingress[i])...)
			}
		}
		if concerns(p, networkingv1.PolicyTypeEgress) {
			egress = true
			for i := range p.Spec.Egress {
				out = append(out, t.egress(p.Namespace, &p.Spec.Egress[i])...)
			}
		}
	}
	if ingress {
		t.out.Ingress[local.at] = t.list(in)
	}
	if egress {
		t.out.Egress[local.at] = t.list(out)
	}
}

// list returns the name of a list of rules, which says what is in it.
func (t *table) list(rules []network.Rule) string {
	name := digest(rules)
	t.out.Lists[name] = rules
	return name
}

// concerns tells whether a policy isolates pods in a direction.
func concerns(p *networkingv1.NetworkPolicy, direction networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) == 0 {
		return direction == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
	}
	return slices.Contains(p.Spec.PolicyTypes, direction)
}

// ingress returns what a rule lets through to a pod, whose ports it may name.
func (t *table) ingress(namespace string, local peer, rule *networkingv1.NetworkPolicyIngressRule) []network.Rule {
	var ports []network.Rule
	for i := range rule.Ports {
		p := &rule.Ports[i]
		if name := nameOf(p); name == "" {
			ports = append(ports, numbered(p))
		} else if number := named(local.pod, name, protocolOf(p)); number != 0 {
			ports = append(ports, network.Rule{Protocol: protocolOf(p), First: number, Last: number})
		}
	}
	if len(rule.Ports) == 0 {
		ports = []network.Rule{{}}
	}
	sides := t.sides(namespace, rule.From, nil)
	rules := product(sides, ports)
	for i := range rules {
		rules[i].Ingress = true
	}
	return rules
}

// egress returns what a rule lets out. A port's name is that of each pod that is reached.
func (t *table) egress(namespace string, rule *networkingv1.NetworkPolicyEgressRule) []network.Rule {
	if len(rule.Ports) == 0 {
		return t.sides(namespace, rule.To, nil)
	}
	var rules []network.Rule
	for i := range rule.Ports {
		p := &rule.Ports[i]
		name := nameOf(p)
		if name == "" {
			rules = append(rules, product(t.sides(namespace, rule.To, nil), []network.Rule{numbered(p)})...)
			continue
		}
		numbers := map[uint16]bool{}
		for _, other := range t.peers {
			if number := named(other.pod, name, protocolOf(p)); number != 0 {
				numbers[number] = true
			}
		}
		for _, number := range sorted(numbers) {
			sides := t.sides(namespace, rule.To, &port{name, protocolOf(p), number})
			rules = append(rules, product(sides, []network.Rule{{Protocol: protocolOf(p), First: number, Last: number}})...)
		}
	}
	return rules
}

// port is a port that has a name and this number at some pods.
type port struct {
	Name     string
	Protocol network.Protocol
	Number   uint16
}

// sides returns who the other side may be; of pods, if at is not nil, those that have that port.
func (t *table) sides(namespace string, peers []networkingv1.NetworkPolicyPeer, at *port) []network.Rule {
	if len(peers) == 0 {
		if at == nil {
			return []network.Rule{{}}
		}
		peers = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
	}
	var sides []network.Rule
	for i := range peers {
		p := &peers[i]
		if p.IPBlock == nil {
			sides = append(sides, network.Rule{Group: t.group(namespace, p, at)})
		} else if r, ok := block(p.IPBlock); ok && at == nil { // an address has no names for ports
			sides = append(sides, r)
		}
	}
	return sides
}

// group returns the name of the pods that a peer selects.
func (t *table) group(namespace string, p *networkingv1.NetworkPolicyPeer, at *port) string {
	if p.NamespaceSelector != nil {
		namespace = ""
	}
	name := digest([]any{namespace, p.NamespaceSelector, p.PodSelector, at})
	if _, ok := t.out.Groups[name]; ok {
		return name
	}
	inNamespaces, inPods := labels.Everything(), labels.Everything()
	if p.NamespaceSelector != nil {
		inNamespaces = selector(p.NamespaceSelector)
	}
	if p.PodSelector != nil {
		inPods = selector(p.PodSelector)
	}
	members := []netip.Addr{}
	for _, other := range t.peers {
		if namespace != "" && other.pod.Namespace != namespace || !inNamespaces.Matches(t.namespaces[other.pod.Namespace]) ||
			!inPods.Matches(labels.Set(other.pod.Labels)) || at != nil && named(other.pod, at.Name, at.Protocol) != at.Number {
			continue
		}
		members = append(members, other.at)
	}
	slices.SortFunc(members, netip.Addr.Compare)
	t.out.Groups[name] = slices.Compact(members)
	return name
}

// block returns who is in a block; false: it is none.
func block(b *networkingv1.IPBlock) (network.Rule, bool) {
	in, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return network.Rule{}, false
	}
	r := network.Rule{Block: in.Masked()}
	for _, text := range b.Except {
		if out, err := netip.ParsePrefix(text); err == nil {
			r.Except = append(r.Except, out.Masked())
		}
	}
	return r, true
}

// product has each of the sides with each of the ports.
func product(sides, ports []network.Rule) []network.Rule {
	var rules []network.Rule
	for _, side := range sides {
		for _, p := range ports {
			p.Group, p.Block, p.Except = side.Group, side.Block, side.Except
			rules = append(rules, p)
		}
	}
	return rules
}

func nameOf(p *networkingv1.NetworkPolicyPort) string {
	if p.Port == nil {
		return ""
	}
	return p.Port.StrVal
}

// numbered is a port, or several, by number; without one, all of the protocol.
func numbered(p *networkingv1.NetworkPolicyPort) network.Rule {
	r := network.Rule{Protocol: protocolOf(p)}
	if p.Port != nil {
		r.First = uint16(p.Port.IntVal)
		r.Last = r.First
		if p.EndPort != nil {
			r.Last = uint16(*p.EndPort)
		}
	}
	return r
}

func protocolOf(p *networkingv1.NetworkPolicyPort) network.Protocol {
	if p.Protocol == nil {
		return network.TCP
	}
	return protocolNamed(*p.Protocol)
}

func protocolNamed(p corev1.Protocol) network.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return network.UDP
	case corev1.ProtocolSCTP:
		return network.SCTP
	}
	return network.TCP
}

// named returns the number that a port has at a pod, 0 if it has none of that name.
func named(pod *corev1.Pod, name string, protocol network.Protocol) uint16 {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for _, p := range list[i].Ports {
				if p.Name == name && protocolNamed(p.Protocol) == protocol {
					return uint16(p.ContainerPort)
				}
			}
		}
	}
	return 0
}

func sorted(numbers map[uint16]bool) (list []uint16) {
	for n := range numbers {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// selector is that of a manifest; one that cannot be read, which the API takes from nobody, selects
// nothing.
func selector(s *metav1.LabelSelector) labels.Selector {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return sel
}

// digest is a name for what is said by something.
func digest(of any) string {
	text, err := json.Marshal(of)
	if err != nil {
		panic(err) // plain data
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}
