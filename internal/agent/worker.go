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
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// podWorker is the one goroutine that knows and decides about one pod. Work that
// takes time runs beside it and posts its result.
type podWorker struct {
	agent *Agent
	ref   runner.PodRef

	latest atomic.Pointer[corev1.Pod] // written by update, read by run
	gone   atomic.Bool                // the API has the pod no more
	wake   chan struct{}              // latest or gone changed
	inbox  chan func()                // results, run by the pod worker
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

// task is what runs beside the pod worker for one container.
type task struct {
	class runner.Class
	// cancel ends the start under way.
	cancel context.CancelFunc
	// life is the context of what belongs to the running process, end ends it;
	// stopProbes ends the probes that could have it restarted.
	life            context.Context
	end, stopProbes context.CancelFunc
	// hooking says that the postStart hook is running.
	hooking bool
	// stopSignal is what the image names, for a container that names none.
	stopSignal string
	loss       loss
}

func newPodWorker(a *Agent, ref runner.PodRef, pod *corev1.Pod, found []runner.Status) *podWorker {
	w := &podWorker{
		agent: a,
		ref:   ref,
		wake:  make(chan struct{}, 1),
		inbox: make(chan func()),
		done:  make(chan struct{}),
		found: found,
	}
	w.latest.Store(pod)
	return w
}

// update hands the pod worker the latest state of its pod.
func (w *podWorker) update(pod *corev1.Pod) {
	w.latest.Store(pod)
	w.nudge()
}

// abandon tells the pod worker that the API has its pod no more.
func (w *podWorker) abandon() {
	w.gone.Store(true)
	w.nudge()
}

func (w *podWorker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// post has f run by the pod worker, unless that has left.
func (w *podWorker) post(f func()) {
	select {
	case w.inbox <- f:
	case <-w.done:
	}
}

// run keeps the pod until it is over, or node, the context of the node, ends.
func (w *podWorker) run(node context.Context) {
	ctx, cancel := context.WithCancel(node)
	defer cancel()
	defer close(w.done)
	w.ctx = ctx
	w.begin()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wakeAt, over := w.step(time.Now())
		if over {
			break
		}
		if wakeAt.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(wakeAt))
		}
		select {
		case f := <-w.inbox:
			f()
			w.drain()
		case <-w.wake:
			w.observe()
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
	w.agent.release(ctx, w)
	w.agent.over(node, w)
}

// drain takes the results that are waiting.
func (w *podWorker) drain() {
	for {
		select {
		case f := <-w.inbox:
			f()
		default:
			return
		}
	}
}

// begin sets up what is known of the pod.
func (w *podWorker) begin() {
	pod := w.latest.Load()
	w.state = podstate.New(pod, time.Now())
	w.tasks = make([]task, len(w.state.Containers))
	w.recover()
	if r := w.agent.admit(w.state); r != nil {
		w.refuse(r)
	} else {
		w.prepare()
	}
	w.observe()
	w.report.dirty = true
}

// observe takes the latest state of the pod's object.
func (w *podWorker) observe() {
	old, pod := w.state.Object, w.latest.Load()
	w.state.Observe(pod)
	w.remount(old, pod)
	if pod.Generation != old.Generation {
		w.report.dirty = true
	}
	now := time.Now()
	switch {
	case w.gone.Load():
		w.state.End(podstate.Ending{Since: now})
	case pod.DeletionTimestamp != nil:
		w.state.End(deletion(pod, now))
	case kind.PodEnded(pod) && !w.report.final:
		// Somebody else has declared it to be over.
		w.state.End(podstate.Ending{Since: now, Grace: w.state.Grace()})
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
func (w *podWorker) step(now time.Time) (wakeAt time.Time, over bool) {
	for {
		d := podstate.Decide(w.state, now)
		if d.End != nil {
			w.state.Ending = d.End
			w.report.dirty = true
			continue
		}
		if w.act(&d, now) {
			continue
		}
		wakeAt = earlier(earlier(d.WakeAt, w.mount(now)), w.tellLosses(now))
		at, over := w.publish(d.Over && !w.volumes.busy, now)
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
func (w *podWorker) act(d *podstate.Decision, now time.Time) (again bool) {
	for _, b := range d.Blocked {
		w.backOff(b)
	}
	for _, i := range d.Start {
		w.start(i, now)
	}
	for _, i := range d.Cancel {
		w.tasks[i].cancel()
	}
	for _, s := range d.Stop {
		w.stop(s)
		again = true
	}
	for _, i := range d.Signal {
		c := &w.state.Containers[i]
		c.Stop.Signaled = now
		w.signal(i, stopSignal(c, w.tasks[i].stopSignal))
		again = true
	}
	for _, i := range d.Kill {
		w.state.Containers[i].Stop.Killed = true
		w.signal(i, int(unix.SIGKILL))
	}
	return again
}

// backOff shows that a container waits before it is tried again.
func (w *podWorker) backOff(b podstate.Block) {
	c := &w.state.Containers[b.Index]
	c.Reason, c.Message = b.Reason, b.Message
	w.report.dirty = true
	pod := w.state.Object
	if b.Reason == podstate.CrashLoopBackOff {
		w.note(c, warning, reason.BackOff, fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Spec.Name, runspec.PodName(pod)))
		return
	}
	w.note(c, normal, reason.BackOff, fmt.Sprintf("Back-off pulling image %q", c.Spec.Image))
	w.note(c, warning, reason.Failed, "Error: "+ImagePullBackOff)
}

// stop begins a container's end: its preStop hook runs at once, its stop
// signal follows when the hook has returned and it is its turn.
func (w *podWorker) stop(order podstate.StopOrder) {
	c := &w.state.Containers[order.Index]
	c.Phase, c.Stop = podstate.Stopping, order.Stop
	w.report.dirty = true
	message := order.Message
	if message == "" {
		message = "Stopping container " + c.Spec.Name
	}
	w.note(c, normal, reason.Killing, message)
	t := &w.tasks[order.Index]
	t.stopProbes()
	if l := c.Spec.Lifecycle; l != nil && l.PreStop != nil && c.Stop.Grace > 0 && !t.hooking {
		w.preStop(order.Index)
	}
}

// signal sends a signal to a container, beside the pod worker.
func (w *podWorker) signal(i, sig int) {
	c := &w.state.Containers[i]
	r, id := w.runner(i), c.ID
	w.agent.tasks.Go(func() {
		err := r.Signal(w.ctx, id, sig)
		if err != nil && !errors.Is(err, runner.ErrEnded) && !errors.Is(err, runner.ErrNotFound) && w.ctx.Err() == nil {
			w.log().Warn("cannot signal a container", "container", id, "signal", sig, "err", err)
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
func (w *podWorker) log() *slog.Logger {
	return w.agent.log.With("ns", w.ref.Namespace, "name", w.ref.Name, "uid", w.ref.UID)
}

func (w *podWorker) runner(i int) runner.Runner { return w.agent.opts.Runners[w.tasks[i].class] }

func (w *podWorker) note(c *podstate.Container, kind, reason, message string) {
	w.agent.opts.Client.Record(note(w.state.Object, c, kind, reason, message))
}
