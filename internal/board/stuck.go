package board

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/explain"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// settle is how long nothing has to happen before a run counts as stuck: what was seen
// last may be old by a moment.
const settle = time.Second

// Stuck returns why nothing of the run can go on any more; "" as long as something can,
// or may. It is so only in a closed world: somebody else could help.
func (b *Board) Stuck(now time.Time) string {
	if !b.closed || b.Ended() || now.Sub(b.changed) < settle {
		return ""
	}
	why, crowded := "", false
	for _, w := range b.order {
		if w.ended() || w.began.IsZero() {
			continue // those in the queue wait for the others
		}
		held, room, text := b.held(now, w)
		if !held {
			return ""
		}
		w.hindered, crowded = text, crowded || room
		if why == "" {
			why = w.name(b) + " cannot go on: " + text
		}
	}
	if crowded && b.makingRoom() {
		return ""
	}
	return why
}

// makingRoom: pods are about to end, and to make room.
func (b *Board) makingRoom() bool {
	for _, p := range b.pods {
		if p.DeletionTimestamp != nil && !kind.PodEnded(p.Pod) {
			return true
		}
	}
	return false
}

// held reports whether a work cannot go on by itself, and why; room: unless others end.
func (b *Board) held(now time.Time, w *work) (held, room bool, why string) {
	for _, p := range w.pods {
		if kind.PodEnded(p.Pod) {
			continue
		}
		o, ok := explain.ObstacleOf(now, p.Pod, b.events[p.UID])
		if !ok || !o.Helpless {
			return false, false, ""
		}
		held, room = true, room || o.Crowded
		if why == "" {
			why = "pod " + p.Name + " " + o.Now
			if len(o.Why) > 0 {
				why += ": " + strings.Join(o.Why, "; ")
			}
		}
	}
	if held || w.job == nil {
		return held, room, why
	}
	if lost := unstartable(w); lost != "" {
		return true, false, lost
	}
	return b.unborn(now, w)
}

// unstartable: all pods of a Job that failed did because their program is not in the image. Those that
// would be tried in their place fail alike.
func unstartable(w *work) (why string) {
	some := false
	for _, p := range w.pods {
		if p.Status.Phase != corev1.PodFailed {
			continue
		}
		if some = explain.Unstartable(p.Pod); !some {
			return ""
		}
	}
	if last := Culprit(w.results); some && last != nil {
		return last.inWords()
	}
	return ""
}

// unborn: the API refuses the pods of a Job, and will go on doing so.
func (b *Board) unborn(now time.Time, w *work) (held, room bool, why string) {
	if o := waitOf(now, w); o.Missing == 0 || !o.Wait.Until.IsZero() || len(o.Terminating) > 0 {
		return false, false, ""
	}
	var last *corev1.Event
	for _, ev := range b.events[w.job.UID] {
		if ev.Reason == reason.FailedCreate && (last == nil || kind.LastHappened(ev).After(kind.LastHappened(last))) {
			last = ev
		}
	}
	if last == nil || !strings.Contains(last.Message, "forbidden") && !strings.Contains(last.Message, "is invalid") {
		return false, false, ""
	}
	return true, false, "no pod of it can be made: " + explain.FirstLine(last.Message)
}

// lacking is what keeps a work from its end, as far as it is not only time: what a pod of it
// waits for, else how it failed last.
func (b *Board) lacking(now time.Time, w *work) string {
	first, why := "", ""
	for _, p := range w.pods {
		if kind.PodEnded(p.Pod) || first != "" && p.Name > first {
			continue
		}
		if o, ok := explain.ObstacleOf(now, p.Pod, b.events[p.UID]); ok && !o.Crowded {
			first, why = p.Name, strings.Join(append([]string{o.Now}, o.Why...), ": ")
		}
	}
	if first != "" {
		return "pod " + first + " " + why
	}
	if last := Culprit(w.results); last != nil && !last.StoppedByJob {
		return last.inWords()
	}
	return ""
}
