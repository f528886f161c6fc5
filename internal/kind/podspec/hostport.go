package podspec

import corev1 "k8s.io/api/core/v1"

// HostPort is a port of its node's machine that a pod asks for.
type HostPort struct {
	Protocol corev1.Protocol
	IP       string
	Port     int32
}

// allAddresses is the IP of who asks for the port at all addresses.
const allAddresses = "0.0.0.0"

// Conflicts tells whether not both can have what they ask for.
func (p HostPort) Conflicts(q HostPort) bool {
	return q.Port == p.Port && q.Protocol == p.Protocol && (q.IP == p.IP || q.IP == allAddresses || p.IP == allAddresses)
}

// HostPorts returns those of the containers of a pod that run as long as it does.
func HostPorts(pod *corev1.Pod) []HostPort {
	var ports []HostPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			asked := HostPort{p.Protocol, p.HostIP, p.HostPort}
			if asked.IP == "" {
				asked.IP = allAddresses
			}
			if asked.Protocol == "" {
				asked.Protocol = corev1.ProtocolTCP
			}
			ports = append(ports, asked)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; IsSidecar(c) {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return ports
}
