// Package network says which addresses and which host name a pod has. Whatever shows a
// pod's address (its status, its environment, its hosts file, its probes) has it from
// here, and none takes the node's address for it.
//
// A pod has the machine's network, with the machine's addresses, or one of its own, whose
// address its runner gives it (runner.Runner.Join).
package network

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

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

// Hostname returns what the hosts file of a pod calls it, and what its processes see as the name of their
// machine unless it asks for more (see Nodename).
func Hostname(pod *corev1.Pod, node string) string {
	name := pod.Spec.Hostname
	switch {
	case pod.Spec.HostNetwork:
		return node
	case pod.Spec.HostnameOverride != nil:
		name = *pod.Spec.HostnameOverride
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

// Domain returns the domain that a pod's name is in, "" if it is in none.
func Domain(pod *corev1.Pod) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostnameOverride != nil {
		return ""
	}
	return pod.Spec.Subdomain + "." + pod.Namespace + ".svc.cluster.local"
}

// Nodename returns what the processes of a pod see as the name of their machine: the host name, or, if the
// pod asks for it (setHostnameAsFQDN), that with its domain, which the kernel may have no room for.
func Nodename(pod *corev1.Pod, node string) (string, error) {
	name, domain := Hostname(pod, node), Domain(pod)
	if domain == "" || pod.Spec.HostNetwork || pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return name, nil
	}
	const longest = 64
	if name += "." + domain; len(name) > longest {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", name, longest, len(name))
	}
	return name, nil
}
