package podstate

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Decision is what is to be done now. Indexes are those of Pod.Containers. What
// is being done already (a Phase says so) is not asked for again.
type Decision struct {
	// Start are containers to start.
	Start []int
	// Cancel are containers whose start is to be abandoned.
	Cancel []int
	// Stop are running containers whose end begins, with its terms.
	Stop []StopOrder
	// Signal are containers to be sent their stop signal, Kill those to be
	// sent SIGKILL.
	Signal, Kill []int
	// Blocked are containers that now wait for their back-off to be over.
	Blocked []Block
	// End, if set, is that the pod is to be ended for a reason of its own.
	End *Ending
	// Over says that nothing of the pod runs and nothing will be started.
	Over bool
	// WakeAt is when to decide again although nothing happened; zero: never.
	WakeAt time.Time
}

// StopOrder asks for a container's end. Message says why, if it is not plain.
type StopOrder struct {
	Index   int
	Message string
	Stop
}

// Block gives the reason for which a container waits.
type Block struct {
	Index           int
	Reason, Message string
}

// The reasons for which a container waits that is tried again and again.
const (
	ErrImagePull     = "ErrImagePull"
	ImagePullBackOff = "ImagePullBackOff"
	CrashLoopBackOff = "CrashLoopBackOff"
)

// pullErrorShown is how long a failed pull is shown before the wait for the
// next one is.
const pullErrorShown = time.Second

func (d *Decision) wake(t time.Time) {
	if d.WakeAt.IsZero() || t.Before(d.WakeAt) {
		d.WakeAt = t
	}
}

// Decide returns what is to be done for the pod at now.
func Decide(p *Pod, now time.Time) Decision {
	var d Decision
	if p.Ending == nil {
		p.deadline(&d, now)
	}
	switch {
	case d.End != nil: // the caller sets Ending and asks again
	case p.Ending != nil:
		p.end(&d)
	default:
		p.run(&d, now)
	}
	p.stop(&d, now)
	return d
}

// deadline ends a pod that is older than its activeDeadlineSeconds.
func (p *Pod) deadline(d *Decision, now time.Time) {
	limit := p.Object.Spec.ActiveDeadlineSeconds
	if limit == nil {
		return
	}
	at := p.StartTime.Add(kind.Seconds(*limit))
	if now.Before(at) {
		d.wake(at)
		return
	}
	if p.finished() && !p.anyAlive() {
		return
	}
	d.End = &Ending{
		Since: now, Grace: p.Grace(),
		Failed: true, Reason: "DeadlineExceeded",
		Message: "Pod was active on the node longer than the specified deadline",
	}
}

// run starts what is due, and ends the pod when its main containers are
// through or an init container failed for good.
func (p *Pod) run(d *Decision, now time.Time) {
	for i := range p.ephemerals() { // whatever the pod waits for: that may be why they are there
		p.start(d, p.Inits+p.Mains+i, now)
	}
	initialized, failed := p.runInits(d, now)
	if failed || initialized && p.finished() {
		if p.anyAlive() {
			d.Start = nil
			d.End = &Ending{Since: now, Grace: p.Grace()}
			return
		}
		d.Start, d.Blocked, d.Over = nil, nil, true
		return
	}
	if !initialized {
		return
	}
	for i := range p.mains() {
		p.start(d, p.Inits+i, now)
	}
}

// runInits starts the init containers that are due. initialized says that the
// main containers may start, failed that one failed for good.
func (p *Pod) runInits(d *Decision, now time.Time) (initialized, failed bool) {
	created := p.mainCreated()
	last := -1 // the last init container of which anything was started
	for i := range p.inits() {
		if p.Containers[i].Attempt >= 0 || p.Containers[i].Exit != nil {
			last = i
		}
	}
	for i := range p.inits() {
		c := &p.Containers[i]
		if c.Kind == Sidecar {
			p.start(d, i, now)
			if !created && i >= last && !(c.Phase == Running && c.Started) {
				return false, false
			}
			continue
		}
		if created || i < last {
			continue
		}
		switch {
		case c.Phase == Exited && c.Exit.ExitCode == 0:
		case c.Phase == Exited && !p.Restarts(c):
			return false, true
		default:
			p.start(d, i, now)
			return false, false
		}
	}
	return true, false
}

// start asks for container i to be started if it does not run, may run and
// its back-off is over.
func (p *Pod) start(d *Decision, i int, now time.Time) {
	c := &p.Containers[i]
	if c.Alive() || !p.Ready || c.Phase == Exited && !p.Restarts(c) {
		return
	}
	if now.Before(c.Retry.Until) {
		d.wake(c.Retry.Until)
		p.block(d, i, now)
		return
	}
	d.Start = append(d.Start, i)
}

// block shows that container i waits for its back-off, if that is not shown
// already.
func (p *Pod) block(d *Decision, i int, now time.Time) {
	c := &p.Containers[i]
	switch {
	case c.Reason == ErrImagePull:
		if at := c.Pull.Grown.Add(pullErrorShown); now.Before(at) {
			d.wake(at)
			return
		}
		d.Blocked = append(d.Blocked, Block{i, ImagePullBackOff,
			fmt.Sprintf("Back-off pulling image %q: %s: %s", cmp.Or(c.Pulling, c.Spec.Image), c.Reason, c.Message)})
	case c.Phase == Exited && c.Reason == "":
		d.Blocked = append(d.Blocked, Block{i, CrashLoopBackOff,
			fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				c.Retry.Delay, c.Spec.Name, p.Object.Name, p.Object.Namespace, p.Object.UID)})
	}
}

// finished reports whether every main container has ended for good.
func (p *Pod) finished() bool {
	for i := range p.mains() {
		if c := &p.mains()[i]; c.Phase != Exited || p.Restarts(c) {
			return false
		}
	}
	return true
}

func (p *Pod) anyAlive() bool {
	for i := range p.Containers {
		if p.Containers[i].Alive() {
			return true
		}
	}
	return false
}

// Grace is the grace period that the pod's own specification grants.
func (p *Pod) Grace() time.Duration {
	if s := p.Object.Spec.TerminationGracePeriodSeconds; s != nil {
		return kind.Seconds(*s)
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// end asks for all containers' end.
func (p *Pod) end(d *Decision) {
	d.Over = true
	for i := range p.Containers {
		c := &p.Containers[i]
		switch c.Phase {
		case Starting:
			d.Cancel = append(d.Cancel, i)
			d.Over = false
		case Running:
			d.Stop = append(d.Stop, StopOrder{Index: i, Stop: Stop{Since: p.Ending.Since, Grace: p.Ending.Grace}})
			d.Over = false
		case Stopping:
			d.Over = false
		}
	}
}

// stop takes the containers that are being stopped a step further.
func (p *Pod) stop(d *Decision, now time.Time) {
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Phase != Stopping || c.Stop.Killed {
			continue
		}
		deadline := c.Stop.Since.Add(c.Stop.Grace)
		if c.Stop.Signaled.IsZero() {
			// The hook and the other containers may use up the grace period.
			if now.Before(deadline) && (c.Stop.Hook || !p.turn(i)) {
				d.wake(deadline)
				continue
			}
			d.Signal = append(d.Signal, i)
			continue
		}
		if at := c.Stop.killAt(); now.Before(at) {
			d.wake(at)
		} else {
			d.Kill = append(d.Kill, i)
		}
	}
}

// turn reports whether container i may be sent its stop signal: a sidecar
// waits for the main containers and for the sidecars after it.
func (p *Pod) turn(i int) bool {
	c := &p.Containers[i]
	if c.Kind != Sidecar || c.Stop.Alone {
		return true
	}
	for j := i + 1; j < p.Inits+p.Mains; j++ {
		if p.Containers[j].HasProcess() {
			return false
		}
	}
	return true
}
