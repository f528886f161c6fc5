package agent

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/runner"
)

// attempt is one attempt to run a container, from its image to its end. It runs beside
// the pod's worker: of the pod it uses only what never changes, and of object and
// container it has what they were when it began.
type attempt struct {
	pod       *pod
	object    *corev1.Pod
	container podstate.Container
	class     runner.Class
	runner    runner.Runner
	number    int
	id        string
	image     *Image // nil until it is here, and for the class host
	sees      target // of an ephemeral container
	endTurn   func() // of its pod, if that has one
	// waits shows what the attempt waits for; it is the worker's to call.
	waits func(text string)
}

// newAttempt describes attempt number to run c.
func newAttempt(c *container, number int) *attempt {
	return &attempt{
		pod: c.pod, object: c.pod.state.Object, container: *c.Container,
		class: c.class, runner: c.runner(), number: number,
		id: containerID(c.pod.ref, c.Spec.Name, number), endTurn: c.pod.endTurn,
	}
}

// target is the container whose processes an ephemeral one is to see.
type target struct {
	name string // "": none
	id   string // its newest attempt; "": there was none
}

// share has the container see the processes of its target. Where it sees all of the pod's
// anyway, or the machine's, there is nothing to do.
func (a *attempt) share(spec *runner.Spec) error {
	switch {
	case a.sees.name == "":
		return nil
	case a.sees.id == "":
		return &runspec.ConfigError{Message: "unable to find target container " + a.sees.name}
	case a.class != runner.Host && !spec.HostPID && !spec.ShareProcesses:
		spec.ProcessesOf = a.sees.id
	}
	return nil
}

// note records an Event about the container.
func (a *attempt) note(kind, reason, message string) {
	a.pod.Client.Record(note(a.object, &a.container, kind, reason, message))
}
