package agent

import (
	"context"
	"time"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/runner"
)

// container is one container of a pod: what is known of it, and what runs beside the
// pod's worker for it. It belongs to the worker's goroutine.
type container struct {
	*podstate.Container
	pod   *pod
	class runner.Class

	// cancel ends the start under way.
	cancel context.CancelFunc
	// life is the context of what belongs to the running process, its hooks and
	// probes; end ends it. stopProbes ends the probes that could have the container
	// restarted.
	life            context.Context
	end, stopProbes context.CancelFunc
	// hooking says that the postStart hook is running.
	hooking bool
	// stopSignal is what the image names, for a container that names none.
	stopSignal string
	loss       loss
	// resizing says that its process is being given other resources; a try that failed is not
	// repeated before resizeAfter.
	resizing    bool
	resizeAfter time.Time
}

// loss is what an Event has told of the output that a container has lost.
type loss struct {
	attempt int
	seen    runner.OutputLoss
	told    int64     // bytes
	until   time.Time // when it is over, if nothing more is lost; zero: it is
}

// containersOf returns the containers of a pod, in the order of its state; list are those that
// there were before. What runs beside the worker has hold of them, so they stay where they are,
// even when ephemeral ones come and the state is elsewhere.
func containersOf(p *pod, list []*container) []*container {
	fresh := make([]container, len(p.state.Containers)-len(list))
	for i := range fresh {
		fresh[i] = container{pod: p, class: p.class(p.state.Object)}
		list = append(list, &fresh[i])
	}
	for i, c := range list {
		c.Container = &p.state.Containers[i]
	}
	return list
}

// runner returns what runs the container.
func (c *container) runner() runner.Runner { return c.pod.Runners[c.class] }

// note records an Event about the container.
func (c *container) note(kind, reason, message string) {
	c.pod.Client.Record(note(c.pod.state.Object, c.Container, kind, reason, message))
}
