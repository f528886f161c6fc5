// Package podstate is the pure part of the node: what is known about one pod,
// what is to be done next (Decide), and what is to be reported (Status). The
// rules are the kubelet's.
//
// Whoever executes a decision changes the state accordingly and asks again;
// Decide and Status change nothing, and know no clock but the time that they
// are given.
package podstate

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// Pod is what the node knows about one pod.
type Pod struct {
	// Object is the latest state of the API object; it is shared and never changed.
	Object *corev1.Pod
	// Containers are the init containers in their order, then the others, then the
	// ephemeral ones in the order in which they were seen.
	Containers []Container
	// Inits and Mains are how many of Containers are init and main containers.
	Inits, Mains int

	// StartTime is when the node first saw the pod.
	StartTime time.Time
	// Ready says that the pod's volumes are there: containers may start.
	Ready bool
	// Ending, if set, says that all containers are to be stopped for good.
	Ending *Ending
	// Resize is how far a change of resources is; see resize.go.
	Resize Resize
}

// Ending is the end of a whole pod.
type Ending struct {
	Since time.Time
	Grace time.Duration
	// Failed, Reason and Message become the pod's phase, reason and message: the
	// pod was ended by the node. When not Failed, the phase follows from how
	// the containers ended.
	Failed          bool
	Reason, Message string
	// Refused says that the node did not take the pod: nothing of it was ever
	// started, and its status says nothing of its containers.
	Refused bool
	// Disrupted says that the node needed what the pod had: it gets the condition
	// DisruptionTarget.
	Disrupted bool
}

// Kind is what part a container has in its pod.
type Kind uint8

const (
	Main    Kind = iota // runs beside the other main containers
	Init                // runs to its end before the next one starts
	Sidecar             // a restartable init container
	// Ephemeral containers come to a pod that runs already, to look at it. One runs at most
	// once, and nothing of the pod depends on it: not its phase, its conditions, its end.
	Ephemeral
)

// Phase is where a container is in its life.
//
//	         ┌────────── failed, nothing was started ─────────┐
//	         ▼                                                │
//	     Waiting ──start──▶ Starting ──process runs──▶ Running
//	         ▲                 │                        │   │
//	         │                 └── process could not ─┐ │  stop
//	restart  │                     be executed        │ │   ▼
//	         └───────────────────────────────────── Exited ◀── Stopping
//
// Exited is where a container stays that is not restarted; a restart goes to
// Starting without passing through Waiting.
type Phase uint8

const (
	Waiting  Phase = iota // no process was ever started, or none could be
	Starting              // its image is pulled, its process is being started
	Running               // the process runs
	Stopping              // the process runs and was told to end
	Exited                // the process has ended
)

// Container is what the node knows about one container.
type Container struct {
	Spec *corev1.Container
	Kind Kind
	// Target is the container whose processes an ephemeral one is to see; "": none.
	Target string
	Phase  Phase

	// Attempt is the number of the newest attempt whose process was started or
	// could not be executed, -1 when there was none.
	Attempt int
	// StartedAt is when the newest attempt's process began to run.
	StartedAt time.Time
	// Hook says that the postStart hook has not returned yet.
	Hook bool
	// Started says that the startup probe has succeeded, if there is one.
	Started bool
	// Ready says that the readiness probe succeeds, if there is one.
	Ready bool
	// Stop is how it is being stopped, in Phase Stopping.
	Stop Stop

	// Exit is how the newest attempt ended, Last the one before; nil if there
	// was none.
	Exit, Last *corev1.ContainerStateTerminated

	// Reason and Message say why the container is not running, in phases other
	// than Running and Stopping; "" is for "ContainerCreating".
	Reason, Message string
	// Pulling is the image that could not be had: the container's own, or that of a volume.
	Pulling string
	// Retry bounds how soon the container may be started; Pull is the back-off
	// of its image.
	Retry, Pull Backoff

	// Granted are the resources that the node has set aside for it, Actual those that its
	// process has; nil: those that Spec says. Resized says that its process is stopped to be
	// started with others.
	Granted, Actual *corev1.ResourceRequirements
	Resized         bool

	// ID, Image, ImageID and User describe the newest attempt.
	ID, Image, ImageID string
	User               *corev1.ContainerUser
}

// Stop is how a running container is being stopped.
//
//	preStop hook ─▶ its turn (sidecars) ─▶ stop signal ─▶ SIGKILL at the deadline
type Stop struct {
	Since time.Time
	Grace time.Duration
	// Hook says that the preStop hook runs.
	Hook bool
	// Signaled is when the stop signal was sent; Killed says that SIGKILL was.
	Signaled time.Time
	Killed   bool
	// Alone says that only this container is stopped, not its pod: sidecars do
	// not wait for their turn.
	Alone bool
}

// minGrace is what a process has between its stop signal and SIGKILL at least,
// however little of the grace period is left.
const minGrace = 2 * time.Second

// killAt returns when the container is to be killed.
func (s *Stop) killAt() time.Time {
	at := s.Since.Add(s.Grace)
	if min := s.Signaled.Add(minGrace); !s.Signaled.IsZero() && at.Before(min) {
		return min
	}
	return at
}

// New returns the state of a pod of which nothing was started.
func New(obj *corev1.Pod, now time.Time) *Pod {
	p := &Pod{
		Object:     obj,
		Containers: make([]Container, 0, len(obj.Spec.InitContainers)+len(obj.Spec.Containers)),
		Inits:      len(obj.Spec.InitContainers),
		Mains:      len(obj.Spec.Containers),
		StartTime:  now,
	}
	for i := range obj.Spec.InitContainers {
		c := Container{Spec: &obj.Spec.InitContainers[i], Kind: Init, Attempt: -1}
		if podspec.IsSidecar(c.Spec) {
			c.Kind = Sidecar
		}
		p.Containers = append(p.Containers, c)
	}
	for i := range obj.Spec.Containers {
		p.Containers = append(p.Containers, Container{Spec: &obj.Spec.Containers[i], Kind: Main, Attempt: -1})
	}
	if t := obj.Status.StartTime; t != nil {
		p.StartTime = t.Time
	}
	p.observeEphemeral()
	return p
}

// Observe notes the latest state of the pod's API object, which may have further ephemeral
// containers.
func (p *Pod) Observe(obj *corev1.Pod) {
	p.keepGranted(obj)
	p.Object = obj
	for i := range p.inits() {
		p.Containers[i].Spec = &obj.Spec.InitContainers[i]
	}
	for i := range p.mains() {
		p.mains()[i].Spec = &obj.Spec.Containers[i]
	}
	p.observeEphemeral()
}

// observeEphemeral takes in the ephemeral containers of the object. A patch may have put them
// in any order; their names stay.
func (p *Pod) observeEphemeral() {
	for i := range p.Object.Spec.EphemeralContainers {
		e := &p.Object.Spec.EphemeralContainers[i]
		c := p.ephemeral(e.Name)
		if c == nil {
			p.Containers = append(p.Containers, Container{Kind: Ephemeral, Target: e.TargetContainerName, Attempt: -1})
			c = &p.Containers[len(p.Containers)-1]
		}
		c.Spec = (*corev1.Container)(&e.EphemeralContainerCommon)
	}
}

// ephemeral returns the ephemeral container of this name, nil if it was not seen before.
func (p *Pod) ephemeral(name string) *Container {
	list := p.ephemerals()
	if i := slices.IndexFunc(list, func(c Container) bool { return c.Spec.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

// End begins the pod's end, or shortens the grace period of the one under way.
func (p *Pod) End(e Ending) {
	if p.Ending == nil {
		p.Ending = &e
		return
	}
	if was := p.Ending.Since.Add(p.Ending.Grace); !e.Since.Add(e.Grace).Before(was) {
		return
	}
	next := *p.Ending
	next.Grace = e.Since.Add(e.Grace).Sub(next.Since)
	p.Ending = &next
	for i := range p.Containers {
		if c := &p.Containers[i]; c.Phase == Stopping {
			c.Stop.Grace = min(c.Stop.Grace, next.Since.Add(next.Grace).Sub(c.Stop.Since))
		}
	}
}

// Snapshot returns a copy that stays as it is when p changes.
func (p *Pod) Snapshot() *Pod {
	next := *p
	next.Containers = slices.Clone(p.Containers)
	return &next
}

// Begun reports whether anything of the pod was ever started.
func (p *Pod) Begun() bool {
	return p.Object.Status.Phase == corev1.PodRunning ||
		slices.ContainsFunc(p.Containers, func(c Container) bool { return c.Attempt >= 0 || c.Exit != nil })
}

// Alive reports whether the container has a process, or is getting one.
func (c *Container) Alive() bool {
	return c.Phase == Starting || c.Phase == Running || c.Phase == Stopping
}

// HasProcess reports whether the container has a process.
func (c *Container) HasProcess() bool { return c.Phase == Running || c.Phase == Stopping }

// inits, mains and ephemerals are the three parts of Containers.
func (p *Pod) inits() []Container      { return p.Containers[:p.Inits] }
func (p *Pod) mains() []Container      { return p.Containers[p.Inits : p.Inits+p.Mains] }
func (p *Pod) ephemerals() []Container { return p.Containers[p.Inits+p.Mains:] }

// mainCreated reports whether any main container was ever started: from then
// on the pod counts as initialized, and init containers do not run again.
func (p *Pod) mainCreated() bool {
	for i := range p.mains() {
		if c := &p.mains()[i]; c.Attempt >= 0 || c.Exit != nil {
			return true
		}
	}
	return false
}

// Restarts reports whether an ended container is started again, as long as its
// pod is not ending.
func (p *Pod) Restarts(c *Container) bool {
	return c.Exit == nil || c.Resized || p.restartsAfter(c, c.Exit.ExitCode)
}

// RestartsAfterFailure reports whether a container that is killed would be
// started again.
func (p *Pod) RestartsAfterFailure(c *Container) bool {
	const killed = 137
	return p.restartsAfter(c, killed)
}

func (p *Pod) restartsAfter(c *Container, code int32) bool {
	if c.Kind == Ephemeral {
		return false
	}
	for _, rule := range c.Spec.RestartPolicyRules {
		if rule.ExitCodes != nil && matches(rule.ExitCodes, code) {
			return true
		}
	}
	policy := p.Object.Spec.RestartPolicy
	if own := c.Spec.RestartPolicy; own != nil {
		policy = corev1.RestartPolicy(*own)
	} else if c.Kind == Init && policy == corev1.RestartPolicyAlways {
		policy = corev1.RestartPolicyOnFailure
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

func matches(codes *corev1.ContainerRestartRuleOnExitCodes, code int32) bool {
	for _, v := range codes.Values {
		if v == code {
			return codes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn
		}
	}
	return codes.Operator == corev1.ContainerRestartRuleOnExitCodesOpNotIn
}
