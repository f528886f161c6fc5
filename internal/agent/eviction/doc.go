// Package eviction is the pure part of what a node does when something runs out:
// which thresholds are met and which conditions the node therefore has (Assess),
// which pod has to go (Victim), and which has outgrown its own limits
// (Overgrown). The rules, the order and the texts are the kubelet's eviction
// manager's; where it ranks inodes it is not, which see.
//
// Whoever observes the machine and measures pods calls it, and ends what it names.
package eviction
