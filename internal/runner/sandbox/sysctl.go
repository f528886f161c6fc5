package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sampan-batch/sampan/internal/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

// splitSysctls returns the kernel parameters of a pod's ipc namespace, and those of its network. One
// for which the pod has no namespace of its own would be the machine's, and is in neither.
func splitSysctls(spec *runner.Spec) (shared, net map[string]string) {
	shared, net = make(map[string]string), make(map[string]string)
	for name, value := range spec.Sysctls {
		switch {
		case strings.HasPrefix(name, "net."):
			if spec.PodNetwork {
				net[name] = value
			}
		case strings.HasPrefix(name, "kernel.") && !spec.HostIPC:
			shared[name] = value
		}
	}
	return shared, net
}

// tuneNetwork sets those of the pod's network. No other pod gets that network.
func (p *pod) tuneNetwork(values map[string]string) error {
	n, err := p.l.networks.get()
	if err != nil {
		return err
	}
	err = n.Tune(p.uid, func() error { return setSysctls(values) })
	if errors.Is(err, network.ErrNotFound) {
		return fmt.Errorf("%w: %w", runner.ErrNoNetwork, err)
	}
	return err
}

// setSysctls sets those of the namespaces that the calling thread is in.
func setSysctls(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(values[name]), 0o644)
		if path := (*os.PathError)(nil); errors.As(err, &path) {
			err = path.Err
		}
		if err != nil {
			return &runner.StartError{
				Reason: "CreateContainerConfigError", Message: fmt.Sprintf("sysctl %s: %q cannot be set: %v", name, shortValue(values[name]), err),
			}
		}
	}
	return nil
}

// shortValue is as much of what a manifest says as a message has room for.
func shortValue(v string) string { return v[:min(len(v), 100)] }
