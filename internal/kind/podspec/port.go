package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ports checks the ports of one container.
func (c *checker) ports(path *field.Path, ports []corev1.ContainerPort) {
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				c.invalidEach(at.Child("name"), p.Name, msgs)
			} else if names.Has(p.Name) {
				c.add(field.Duplicate(at.Child("name"), p.Name))
			} else {
				names.Insert(p.Name)
			}
		}
		if p.ContainerPort == 0 {
			c.required(at.Child("containerPort"), "")
		} else {
			c.invalidEach(at.Child("containerPort"), p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)))
		}
		if p.HostPort != 0 {
			c.invalidEach(at.Child("hostPort"), p.HostPort, validation.IsValidPortNum(int(p.HostPort)))
		}
		requiredOneOf(c, at.Child("protocol"), p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
	}
}

// hostPortConflicts refuses the same port of the host twice.
func (c *checker) hostPortConflicts(path *field.Path, containers []corev1.Container) {
	taken := sets.New[string]()
	for i := range containers {
		for j, p := range containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if taken.Has(key) {
				c.add(field.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			taken.Insert(key)
		}
	}
}

// hostNetworkPorts demands that on the host's network a port is the host's
// own. A template may leave that to the pod's defaults.
func (c *checker) hostNetworkPorts(path *field.Path, pod bool) {
	if !c.spec.HostNetwork {
		return
	}
	for i := range c.spec.Containers {
		for j, p := range c.spec.Containers[i].Ports {
			if (pod || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				c.invalid(path.Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort,
					"must match `containerPort` when `hostNetwork` is true")
			}
		}
	}
}

// portNumOrName checks the port that a probe or hook connects to.
func (c *checker) portNumOrName(path *field.Path, port intstr.IntOrString) {
	switch port.Type {
	case intstr.Int:
		c.invalidEach(path, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	case intstr.String:
		c.invalidEach(path, port.StrVal, validation.IsValidPortName(port.StrVal))
	default:
		c.add(field.InternalError(path, fmt.Errorf("unknown type: %v", port.Type)))
	}
}
