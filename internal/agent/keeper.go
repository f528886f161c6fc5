package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/recipe"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
)

// keeper is the one goroutine that knows and decides about one pod. Work that
// takes time runs beside it and posts its result.
type keeper struct {
	agent *Agent
	ref   PodRef

	latest atomic.Pointer[corev1.Pod] // written by update, read by run
	gone   atomic.Bool                // the API has the pod no more
	wake   chan struct{}              // latest or gone changed
	inbox  chan func()                // results, run by the keeper
	done   chan struct{}              // closed when run has returned

	// What follows belongs to run alone.
	ctx     context.Context
	state   *podstate.Pod
	found   []runner.Status // containers of a former run of the node
	tasks   []task          // per container
	report  report
	volumes volumes

	saidLimits  bool // that limits are not enforced
	saidContext bool // that a part of its security context has no effect
	uncertain   bool // a start failed in a way that may have left a container
}

// task is what runs beside the keeper for one container.
type task struct {
	class runner.Class
	// cancel ends the start under way.
	cancel context.CancelFunc
	// life is the context of what belongs to the running process, end ends it;
	// calm ends the probes that could have it restarted.
	life      context.Context
	end, calm context.CancelFunc
	// hooking says that the postStart hook is running.
	hooking bool
	// stopSignal is what the image names, for a container that names none.
	stopSignal string
	loss       loss
}

func newKeeper(a *Agent, ref PodRef, pod *corev1.Pod, found []runner.Status) *keeper {
	k := &keeper{
		agent: a,
		ref:   ref,
		wake:  make(chan struct{}, 1),
		inbox: make(chan func()),
		done:  make(chan struct{}),
		found: found,
	}
	k.latest.Store(pod)
	return k
}

// update hands the keeper the latest state of its pod.
func (k *keeper) update(pod *corev1.Pod) {
	k.latest.Store(pod)
	k.nudge()
}

// abandon tells the keeper that the API has its pod no more.
func (k *keeper) abandon() {
	k.gone.Store(true)
	k.nudge()
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// post has f run by the keeper, unless that has left.
func (k *keeper) post(f func()) {
	select {
	case k.inbox <- f:
	case <-k.done:
	}
}

// run keeps the pod until it is over, or node, the context of the node, ends.
func (k *keeper) run(node context.Context) {
	ctx, cancel := context.WithCancel(node)
	defer cancel()
	defer close(k.done)
	k.ctx = ctx
	k.begin()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wakeAt, over := k.step(time.Now())
		if over {
			break
		}
		if wakeAt.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(wakeAt))
		}
		select {
		case f := <-k.inbox:
			f()
			k.drain()
		case <-k.wake:
			k.observe()
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
	k.agent.release(ctx, k)
	k.agent.over(node, k)
}

// drain takes the results that are waiting.
func (k *keeper) drain() {
	for {
		select {
		case f := <-k.inbox:
			f()
		default:
			return
		}
	}
}

// begin sets up what is known of the pod.
func (k *keeper) begin() {
	pod := k.latest.Load()
	k.state = podstate.New(pod, time.Now())
	k.tasks = make([]task, len(k.state.Containers))
	k.recover()
	if r := k.agent.admit(k.state); r != nil {
		k.refuse(r)
	} else {
		k.prepare()
	}
	k.observe()
	k.report.dirty = true
}

// observe takes the latest state of the pod's object.
func (k *keeper) observe() {
	old, pod := k.state.Object, k.latest.Load()
	k.state.Observe(pod)
	k.remount(old, pod)
	if pod.Generation != old.Generation {
		k.report.dirty = true
	}
	now := time.Now()
	switch {
	case k.gone.Load():
		k.state.End(podstate.Ending{Since: now})
	case pod.DeletionTimestamp != nil:
		k.state.End(deletion(pod, now))
	case kind.PodEnded(pod) && !k.report.final:
		// Somebody else has declared it to be over.
		k.state.End(podstate.Ending{Since: now, Grace: k.state.Grace()})
	}
}

// deletion returns the ending that a pod's deletion asks for.
func deletion(pod *corev1.Pod, now time.Time) podstate.Ending {
	e := podstate.Ending{Since: now}
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		e.Grace = time.Duration(*s) * time.Second
	}
	// The grace period may have begun under a former run of the node.
	if since := pod.DeletionTimestamp.Add(-e.Grace); now.Sub(since) > 2*time.Second {
		e.Since = since
	}
	return e
}

// step decides and acts until there is nothing left to do at now. It returns
// when to look again, and whether the pod is over and that has been reported.
func (k *keeper) step(now time.Time) (wakeAt time.Time, over bool) {
	for {
		d := podstate.Decide(k.state, now)
		if d.End != nil {
			k.state.Ending = d.End
			k.report.dirty = true
			continue
		}
		if k.act(&d, now) {
			continue
		}
		wakeAt = earlier(earlier(d.WakeAt, k.mount(now)), k.tellLosses(now))
		at, over := k.publish(d.Over && !k.volumes.busy, now)
		return earlier(wakeAt, at), over
	}
}

// earlier returns the earlier of two times; a zero one is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// act does what was decided, and reports whether it changed the state so that
// something more may have to be done at once.
func (k *keeper) act(d *podstate.Decision, now time.Time) (again bool) {
	for _, b := range d.Blocked {
		k.backOff(b)
	}
	for _, i := range d.Start {
		k.start(i, now)
	}
	for _, i := range d.Cancel {
		k.tasks[i].cancel()
	}
	for _, s := range d.Stop {
		k.stop(s)
		again = true
	}
	for _, i := range d.Signal {
		c := &k.state.Containers[i]
		c.Stop.Signaled = now
		k.signal(i, stopSignal(c, k.tasks[i].stopSignal))
		again = true
	}
	for _, i := range d.Kill {
		k.state.Containers[i].Stop.Killed = true
		k.signal(i, int(unix.SIGKILL))
	}
	return again
}

// backOff shows that a container waits before it is tried again.
func (k *keeper) backOff(b podstate.Block) {
	c := &k.state.Containers[b.Index]
	c.Reason, c.Message = b.Reason, b.Message
	k.report.dirty = true
	pod := k.state.Object
	if b.Reason == podstate.CrashLoopBackOff {
		k.note(c, warning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Spec.Name, recipe.PodName(pod)))
		return
	}
	k.note(c, normal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Spec.Image))
	k.note(c, warning, "Failed", "Error: "+ImagePullBackOff)
}

// stop begins a container's end: its preStop hook runs at once, its stop
// signal follows when the hook has returned and it is its turn.
func (k *keeper) stop(order podstate.StopOrder) {
	c := &k.state.Containers[order.Index]
	c.Phase, c.Stop = podstate.Stopping, order.Stop
	k.report.dirty = true
	message := order.Message
	if message == "" {
		message = "Stopping container " + c.Spec.Name
	}
	k.note(c, normal, "Killing", message)
	t := &k.tasks[order.Index]
	t.calm()
	if l := c.Spec.Lifecycle; l != nil && l.PreStop != nil && c.Stop.Grace > 0 && !t.hooking {
		k.preStop(order.Index)
	}
}

// signal sends a signal to a container, beside the keeper.
func (k *keeper) signal(i, sig int) {
	c := &k.state.Containers[i]
	r, id := k.runner(i), c.ID
	k.agent.tasks.Go(func() {
		err := r.Signal(k.ctx, id, sig)
		if err != nil && !errors.Is(err, runner.ErrEnded) && !errors.Is(err, runner.ErrNotFound) && k.ctx.Err() == nil {
			k.log().Warn("cannot signal a container", "container", id, "signal", sig, "err", err)
		}
	})
}

// stopSignal is the signal that asks the container to end: what the pod says,
// else its image.
func stopSignal(c *podstate.Container, image string) int {
	name := image
	if l := c.Spec.Lifecycle; l != nil && l.StopSignal != nil {
		name = string(*l.StopSignal)
	}
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		return n
	}
	if name != "" && !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return int(sig)
	}
	return int(unix.SIGTERM)
}

// log returns a logger that names the pod.
func (k *keeper) log() *slog.Logger {
	return k.agent.log.With("ns", k.ref.Namespace, "name", k.ref.Name, "uid", k.ref.UID)
}

func (k *keeper) runner(i int) runner.Runner { return k.agent.opts.Runners[k.tasks[i].class] }

func (k *keeper) note(c *podstate.Container, kind, reason, message string) {
	k.agent.opts.Client.Record(note(k.state.Object, c, kind, reason, message))
}
