package board

import (
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/explain"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Queue adds a Job or a Pod that the run is about, and whose turn has not come: it need
// not exist yet. Add, with one of its name, says that it has.
func (b *Board) Queue(obj kind.Object) {
	if w := newWork(time.Time{}, obj); w != nil {
		b.space[obj.GetNamespace()] = true
		b.queued[NameOf(obj)] = w
		b.order = append(b.order, w)
	}
}

// Recall adds one that had ended before this run began, which is no news.
func (b *Board) Recall(obj kind.Object) {
	w := newWork(obj.GetCreationTimestamp().Time, obj)
	if w == nil {
		return
	}
	b.space[obj.GetNamespace()] = true
	b.works[obj.GetUID()] = w
	b.order = append(b.order, w)
	b.recalled++
	switch obj := obj.(type) {
	case *batchv1.Job:
		if s := obj.Status.StartTime; s != nil {
			w.began = s.Time
		}
		end := kind.JobEnd(obj)
		w.verdict, w.end = verdict{string(end.Type), end.Reason, end.Message}, end.LastTransitionTime.Time
	case *corev1.Pod:
		w.verdict, w.end = verdictOf(obj), lastEnd(obj)
	}
	b.count(w.verdict)
}

// NameOf tells works from each other that have no UID yet.
func NameOf(obj kind.Object) string {
	name := obj.GetNamespace() + "/" + obj.GetName()
	if _, ok := obj.(*corev1.Pod); ok {
		return "pod/" + name
	}
	return "job/" + name
}

// verdictOf is how a pod alone ended.
func verdictOf(p *corev1.Pod) verdict {
	if p.Status.Phase == corev1.PodSucceeded {
		return verdict{status: string(batchv1.JobComplete)}
	}
	return verdict{string(batchv1.JobFailed), p.Status.Reason, p.Status.Message}
}

// lastEnd is when the last container of a pod did.
func lastEnd(p *corev1.Pod) time.Time {
	last := p.CreationTimestamp.Time
	for _, s := range p.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	return last
}

// before is how much of the progress is from earlier runs.
func (b *Board) before() int {
	if len(b.order) == 1 && b.order[0].job != nil {
		return b.order[0].carried
	}
	return b.recalled
}

// Open are those that have begun and not ended, as they were seen last.
func (b *Board) Open() []kind.Object {
	var open []kind.Object
	for _, w := range b.order {
		switch p := b.pods[w.meta.UID]; {
		case w.ended() || w.began.IsZero():
		case w.job != nil:
			open = append(open, w.job)
		case p != nil:
			open = append(open, p.Pod)
		default:
			open = append(open, &corev1.Pod{ObjectMeta: *w.meta})
		}
	}
	return open
}

// HasFailed reports whether a Job or Pod has failed in this run.
func (b *Board) HasFailed() bool { return b.failure != nil }

// FirstFailure says which Job or Pod failed first in this run, and how; "" if none did. How
// its pod ended may be known a moment later than that it did, which is waited for.
func (b *Board) FirstFailure(now time.Time) string {
	w := b.failure
	if w == nil {
		return ""
	}
	last := Culprit(w.results)
	if now.Sub(w.end) < moment && (last == nil || b.owes(last)) {
		return ""
	}
	why := strings.TrimSuffix(w.reason+": "+explain.FirstLine(w.message), ": ")
	if last != nil {
		why = last.How()
	}
	return w.name(b) + " failed: " + why
}
