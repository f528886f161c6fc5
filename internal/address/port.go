package address

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind"
)

var (
	errTaken      = errors.New("provided port is already allocated")
	errOutOfRange = fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", kind.FirstNodePort, kind.LastNodePort)
	errNoPort     = errors.New("range is full")
)

// nodePorts gives each port of the Service its node port, or sees to it that the one it
// wants is free. Ports of one number, for TCP and UDP, share theirs when the Service is new.
func (g *grant) nodePorts() error {
	spec := &g.service.Spec
	if spec.Type != corev1.ServiceTypeNodePort && spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	shared := map[int32]int32{} // port → its node port
	for i := range spec.Ports {
		p := &spec.Ports[i]
		if p.NodePort == 0 && !allocates(spec) {
			continue
		}
		path := field.NewPath("spec", "ports").Index(i).Child("nodePort")
		if g.old == nil {
			if shared[p.Port] != 0 {
				if p.NodePort == 0 {
					p.NodePort, g.given = shared[p.Port], true
					continue
				}
				if p.NodePort == shared[p.Port] {
					continue
				}
			} else if p.NodePort == 0 {
				p.NodePort = requested(p.Port, spec.Ports)
				g.given = g.given || p.NodePort != 0
			}
		}
		if err := g.nodePort(p, path); err != nil {
			return err
		}
		if shared[p.Port] == 0 {
			shared[p.Port] = p.NodePort
		}
	}
	return nil
}

// requested is the node port that another port of the same number asks for; 0 if none does.
func requested(port int32, ports []corev1.ServicePort) int32 {
	for i := range ports {
		if ports[i].Port == port && ports[i].NodePort != 0 {
			return ports[i].NodePort
		}
	}
	return 0
}

// nodePort takes the node port that p asks for, or any.
func (g *grant) nodePort(p *corev1.ServicePort, path *field.Path) error {
	if p.NodePort != 0 {
		if err := g.take(p.NodePort); err != nil {
			return g.invalid(path, p.NodePort, err.Error())
		}
		return nil
	}
	port, err := g.anyPort()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
	}
	p.NodePort, g.given = port, true
	return nil
}

// take takes a port that is asked for by its number. One that the Service has had may be
// named twice, one for TCP and one for UDP.
func (g *grant) take(port int32) error {
	term := kind.ServicesOnPort(port)
	switch {
	case g.had[term]:
		return nil
	case port < kind.FirstNodePort || port > kind.LastNodePort:
		return errOutOfRange
	case !g.free(term):
		return errTaken
	}
	if g.old != nil {
		g.had[term] = true // an update may name it for more ports
		return nil
	}
	g.taken[term] = true
	return nil
}

// anyPort takes a port that is free, and that the Service does not ask for elsewhere.
func (g *grant) anyPort() (int32, error) {
	const size = kind.LastNodePort - kind.FirstNodePort + 1
	asked := map[int32]bool{g.service.Spec.HealthCheckNodePort: true}
	for _, p := range g.service.Spec.Ports {
		asked[p.NodePort] = true
	}
	i, ok := g.draw(size, reserved(size, 32, 128), func(i int) bool {
		port := kind.FirstNodePort + int32(i)
		return !asked[port] && !g.had[kind.ServicesOnPort(port)] && g.free(kind.ServicesOnPort(port))
	})
	if !ok {
		return 0, errNoPort
	}
	port := kind.FirstNodePort + int32(i)
	g.taken[kind.ServicesOnPort(port)] = true
	return port, nil
}

// healthCheckPort gives the Service the port on which load balancers ask whether a node
// has endpoints of it.
func (g *grant) healthCheckPort() error {
	spec := &g.service.Spec
	if !needsHealthCheck(spec) || g.old != nil && needsHealthCheck(&g.old.Spec) {
		return nil
	}
	if port := spec.HealthCheckNodePort; port != 0 {
		if err := g.take(port); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %w", port, err))
		}
		return nil
	}
	port, err := g.anyPort()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %v: %w", port, err))
	}
	spec.HealthCheckNodePort, g.given = port, true
	return nil
}

func needsHealthCheck(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// allocates reports whether a Service whose ports do not ask for node ports has some.
func allocates(spec *corev1.ServiceSpec) bool {
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		return spec.AllocateLoadBalancerNodePorts == nil || *spec.AllocateLoadBalancerNodePorts
	}
	return spec.Type == corev1.ServiceTypeNodePort
}
