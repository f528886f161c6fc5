// Package network says which addresses and which host name a pod has. Whatever shows a
// pod's address (its status, its environment, its hosts file, its probes) has it from
// here, and none takes the node's address for it.
//
// A pod has the machine's network, with the machine's addresses, or one of its own, whose
// address its runner gives it (runner.Runner.Join).
package network

import corev1 "k8s.io/api/core/v1"

// Addresses are those of a pod, and those of the node that it is on, the primary one
// first. There are none if the machine has none.
type Addresses struct {
	Pod, Node []string
	// Own: the pod's are not those of the machine.
	Own bool
}

// PodIP returns the primary address of the pod, "" if it has none.
func (a Addresses) PodIP() string { return first(a.Pod) }

// NodeIP returns the primary address of the node, "" if it has none.
func (a Addresses) NodeIP() string { return first(a.Node) }

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// Hostname returns what the processes of a pod see as the name of their machine.
func Hostname(pod *corev1.Pod, node string) string {
	name := pod.Spec.Hostname
	switch {
	case pod.Spec.HostNetwork:
		return node
	case name == "":
		name = pod.Name
	}
	const longest = 63
	if len(name) > longest {
		name = name[:longest]
		for name[len(name)-1] == '-' || name[len(name)-1] == '.' {
			name = name[:len(name)-1]
		}
	}
	return name
}
