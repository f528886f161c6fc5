package node

import (
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// resources returns what the node has and what of it pods may use, given its present status. What
// this machine has it says itself. Extended resources are theirs who write them into the node's
// capacity ("Advertise Extended Resources for a Node" in Kubernetes' documentation): they stay, pods
// may use all of them, and they go with that entry.
func (n *Node) resources(present *corev1.NodeStatus) (capacity, allocatable corev1.ResourceList) {
	capacity, allocatable = maps.Clone(n.config.Capacity), maps.Clone(n.config.Allocatable)
	for name, q := range present.Capacity {
		if _, own := capacity[name]; !own && podspec.IsExtended(name) {
			capacity[name], allocatable[name] = q, q
		}
	}
	return capacity, allocatable
}
