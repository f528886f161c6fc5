package agent

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// podWorker is the goroutine that looks after one pod: it observes, decides, acts and
// publishes.
type podWorker struct {
	pod
	latest atomic.Pointer[corev1.Pod] // written by update, read by run
	wake   chan struct{}              // latest or gone has changed
	found  []runner.Status            // containers of a former run of the node

	// What follows belongs to run alone.
	containers []*container
	volumes    volumeSetup
	status     statusWriter
	resizes    resizer
}

func newPodWorker(s *services, ref runner.PodRef, object *corev1.Pod, found []runner.Status) *podWorker {
	w := &podWorker{
		pod:  pod{services: s, ref: ref, inbox: make(chan func()), done: make(chan struct{}), endTurn: func() {}},
		wake: make(chan struct{}, 1), found: found,
	}
	w.volumes.pod, w.status.pod, w.resizes.pod, w.began = &w.pod, &w.pod, &w.pod, object
	w.latest.Store(object)
	return w
}

// update hands the worker the latest state of its pod.
func (w *podWorker) update(object *corev1.Pod) {
	w.latest.Store(object)
	w.nudge()
}

// abandon tells the worker that the API has its pod no more.
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

// run looks after the pod until it is over, or node, the context of the node, ends.
// leave is called when nothing of the pod runs any more, its last status is written,
// and what its containers held is released.
func (w *podWorker) run(node context.Context, leave func()) {
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
	w.finish()
	leave()
}

// drain runs the results that are waiting, so that one decision follows them all.
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
	w.state = podstate.New(w.latest.Load(), time.Now())
	w.containers = containersOf(&w.pod, nil)
	recoverContainers(&w.pod, w.containers, w.found)
	w.found = nil
	if r := w.admit(); r != nil {
		w.refuse(r)
	} else {
		w.volumes.prepare()
	}
	w.observe()
	w.dirty = true
}

// observe notes the latest state of the pod's object, which may ask for its end.
func (w *podWorker) observe() {
	old, now := w.state.Object, w.latest.Load()
	w.state.Observe(now)
	w.containers = containersOf(&w.pod, w.containers)
	w.volumes.observe(old, now)
	if now.Generation != old.Generation {
		w.dirty = true
	}
	switch at := time.Now(); {
	case w.gone.Load():
		w.state.End(podstate.Ending{Since: at})
	case now.DeletionTimestamp != nil:
		w.state.End(deletion(now, at))
	case kind.PodEnded(now) && !w.status.final:
		// Somebody else has written that it is over.
		w.state.End(podstate.Ending{Since: at, Grace: w.state.Grace()})
	}
}

// deletion returns the ending that a pod's deletion asks for.
func deletion(pod *corev1.Pod, now time.Time) podstate.Ending {
	e := podstate.Ending{Since: now}
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		e.Grace = kind.Seconds(*s)
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
			w.dirty = true
			continue
		}
		if w.act(&d, now) {
			continue
		}
		wakeAt = earlier(d.WakeAt, w.volumes.mount(now))
		wakeAt = earlier(wakeAt, w.resizes.step(w.containers, now))
		for i := range w.containers {
			wakeAt = earlier(wakeAt, w.containers[i].lossOver(now))
		}
		at, over := w.status.publish(d.Over && !w.volumes.busy, now)
		return earlier(wakeAt, at), over
	}
}

// act does what was decided, and reports whether it changed the state so that
// something more may have to be done at once.
func (w *podWorker) act(d *podstate.Decision, now time.Time) (again bool) {
	for _, b := range d.Blocked {
		w.backOff(b)
	}
	for _, i := range d.Start {
		w.containers[i].start(w.target(i), now)
	}
	for _, i := range d.Cancel {
		w.containers[i].cancel()
	}
	for _, s := range d.Stop {
		w.containers[s.Index].stop(s.Message, s.Stop)
		again = true
	}
	for _, i := range d.Signal {
		w.containers[i].terminate(now)
		again = true
	}
	for _, i := range d.Kill {
		w.containers[i].kill()
	}
	return again
}

// backOff shows that a container waits before it is tried again.
func (w *podWorker) backOff(b podstate.Block) {
	c := w.containers[b.Index]
	c.Reason, c.Message = b.Reason, b.Message
	w.dirty = true
	if b.Reason == podstate.CrashLoopBackOff {
		c.note(warning, reason.BackOff, fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Spec.Name, runspec.PodName(w.state.Object)))
		return
	}
	c.note(normal, reason.BackOff, fmt.Sprintf("Back-off pulling image %q", cmp.Or(c.Pulling, c.Spec.Image)))
	c.note(warning, reason.Failed, "Error: "+ImagePullBackOff)
}

// finish gives back what the pod still holds: its ended containers, and what they
// shared.
func (w *podWorker) finish() {
	w.forget(w.ctx, w.ended)
	w.grants.forget(w.ref.UID)
	w.takings.forget(w.ref.UID)
	for i := range w.containers {
		w.containers[i].endLife()
	}
	if w.uncertain {
		w.discard(w.ctx, w.ref, w.leftovers(w.ctx, w.ref))
	}
	w.release(w.ctx, w.ref, w.state.Object)
}

// named returns a container of the pod by its name, or nil.
func (w *podWorker) named(name string) *container {
	for _, c := range w.containers {
		if c.Spec.Name == name {
			return c
		}
	}
	return nil
}

// target returns what container i is to see the processes of.
func (w *podWorker) target(i int) target {
	t := target{name: w.containers[i].Target}
	if t.name == "" {
		return t
	}
	if c := w.named(t.name); c != nil {
		t.id = c.ID
	}
	return t
}
