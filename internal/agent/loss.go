package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// lossQuiet is how long a container loses no output until that is over: what it
// loses later is news.
const lossQuiet = 10 * time.Second

// loss is what an Event has told of the output that a container has lost.
type loss struct {
	attempt int
	seen    runner.OutputLoss
	told    int64     // bytes
	until   time.Time // when it is over, if nothing more is lost; zero: it is
}

// learnLosses has the pod workers told of lost output, until ctx ends.
func (a *Agent) learnLosses(ctx context.Context) {
	for _, r := range a.opts.Runners {
		a.tasks.Go(func() {
			r.Losses(ctx, func(st runner.Status) {
				if w := a.workerOf(st.Pod.UID); w != nil {
					w.post(func() { w.outputLost(st, time.Now()) })
				}
			})
		})
	}
}

// workerOf is the pod worker of a pod, or nil.
func (a *Agent) workerOf(uid string) *podWorker {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.pods[uid]; e != nil {
		return e.worker
	}
	return nil
}

// outputLost takes what a container has lost by now. The first of it is told at
// once, what follows when it is over: two Events for an hour of a full disk.
func (w *podWorker) outputLost(st runner.Status, now time.Time) {
	i := w.index(st.Container)
	if i < 0 || st.OutputLost.Bytes == 0 {
		return
	}
	l := &w.tasks[i].loss
	if st.Attempt < l.attempt {
		return
	}
	if st.Attempt > l.attempt {
		*l = loss{attempt: st.Attempt}
	}
	if st.OutputLost.Bytes > l.seen.Bytes {
		l.seen = st.OutputLost
		w.agent.lookSoon() // the disk is full, perhaps
		if l.until.IsZero() {
			w.tellLoss(i)
		}
		l.until = now.Add(lossQuiet)
	}
	if st.Phase == runner.Exited {
		w.tellLoss(i)
		l.until = time.Time{}
	}
}

// index is that of a container, or negative.
func (w *podWorker) index(name string) int {
	for i := range w.state.Containers {
		if w.state.Containers[i].Spec.Name == name {
			return i
		}
	}
	return -1
}

// tellLosses tells of losses that are over at now, and returns when to look again.
func (w *podWorker) tellLosses(now time.Time) (wakeAt time.Time) {
	for i := range w.tasks {
		l := &w.tasks[i].loss
		if l.until.IsZero() {
			continue
		}
		if now.Before(l.until) {
			wakeAt = earlier(wakeAt, l.until)
			continue
		}
		w.tellLoss(i)
		l.until = time.Time{}
	}
	return wakeAt
}

// tellLoss tells of what was lost since it was last told.
func (w *podWorker) tellLoss(i int) {
	l, c := &w.tasks[i].loss, &w.state.Containers[i]
	lost := l.seen.Bytes - l.told
	if lost == 0 {
		return
	}
	another := ""
	if !l.until.IsZero() {
		another = "another "
	}
	l.told = l.seen.Bytes
	w.note(c, warning, reason.OutputLost, fmt.Sprintf("Container %s lost %s%d bytes of its output, which could not be written to its log: %s",
		c.Spec.Name, another, lost, l.seen.Message))
}
