package agent

import (
	"fmt"
)

// prepare gets ready what the pod's containers need before any of them starts.
func (k *keeper) prepare() {
	class := k.agent.class(k.state.Object)
	if k.agent.opts.Runners[class] == nil {
		k.note(nil, warning, "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: no runtime for %q is configured", class))
		return
	}
	k.state.Ready = true
}
