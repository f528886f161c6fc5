package agent

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
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
	// waits shows what the attempt waits for; it is the worker's to call.
	waits func(text string)
}

// newAttempt describes attempt number to run c.
func newAttempt(c *container, number int) *attempt {
	return &attempt{
		pod: c.pod, object: c.pod.state.Object, container: *c.Container,
		class: c.class, runner: c.runner(), number: number,
		id: containerID(c.pod.ref, c.Spec.Name, number),
	}
}

// note records an Event about the container.
func (a *attempt) note(kind, reason, message string) {
	a.pod.Client.Record(note(a.object, &a.container, kind, reason, message))
}
