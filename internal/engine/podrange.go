package engine

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/address"
	"github.com/sampan-batch/sampan/internal/kind"
)

// assignPodRanges gives each node the range of its pods' addresses, as kube-controller-manager does
// with --allocate-node-cidrs: what it has in the store, else what its manifest says, else one that
// is free. A node keeps it: its pods outlive the engine, and so do their addresses.
func (e *Engine) assignPodRanges() error {
	cluster := e.config.network().Cluster
	view := e.store.View()
	var taken, others []netip.Prefix
	stored := make(map[string]string)
	for obj := range view.List(kind.Nodes, "") {
		n := obj.(*corev1.Node)
		stored[n.Name] = n.Spec.PodCIDR
		if r, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil && !slices.ContainsFunc(e.config.Nodes, func(own *corev1.Node) bool { return own.Name == n.Name }) {
			others = append(others, r)
		}
	}
	var open []*corev1.Node
	for _, n := range e.config.Nodes {
		has := stored[n.Name]
		if has == "" {
			has = n.Spec.PodCIDR
		}
		r, ok := address.FitsPods(cluster, has, taken)
		if !ok {
			if has != "" {
				e.config.Logger.Warn("a node's pods get other addresses than it says", "node", n.Name, "found", has)
			}
			open = append(open, n)
			continue
		}
		taken = append(taken, r)
		e.setPodRange(n, r)
	}
	for _, n := range open {
		pods := n.Status.Capacity.Pods().Value()
		r, ok := address.PodRange(cluster, pods, len(e.config.Nodes), slices.Concat(taken, others))
		if !ok { // what nodes have that are not this engine's is nothing but what they say
			r, ok = address.PodRange(cluster, pods, len(e.config.Nodes), taken)
		}
		if !ok {
			return fmt.Errorf("node %s: no addresses are left for its pods in %s", n.Name, cluster)
		}
		taken = append(taken, r)
		e.setPodRange(n, r)
	}
	return nil
}

// setPodRange gives a node a range of IPv4, and the one of IPv6 that goes with it.
func (e *Engine) setPodRange(n *corev1.Node, r netip.Prefix) {
	c := e.config.network()
	n.Spec.PodCIDR, n.Spec.PodCIDRs = r.String(), nil
	for _, own := range c.PodRanges(r) {
		n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, own.String())
	}
}

// hosts are the addresses that the nodes themselves have among their pods'.
func (e *Engine) hosts() (list []netip.Addr) {
	c := e.config.network()
	for _, n := range e.config.Nodes {
		for _, own := range c.PodRanges(podRange(n)) {
			list = append(list, own.Addr().Next())
		}
	}
	return list
}

// podRange is that of a node that has been given one.
func podRange(n *corev1.Node) netip.Prefix {
	r, err := netip.ParsePrefix(n.Spec.PodCIDR)
	if err != nil {
		panic(fmt.Sprintf("engine: the range of node %s: %v", n.Name, err))
	}
	return r
}
