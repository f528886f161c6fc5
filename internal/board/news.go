package board

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/sampan-batch/sampan/internal/explain"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// piece is a piece of news.
type piece struct {
	at         time.Time
	head, tail string
	how        *PodResult // goes between them, if not nil
}

// moment is how long the end of a log is waited for that may tell more.
const moment = 300 * time.Millisecond

// News returns what there is to tell since it was asked last, a line each. How long a
// container lived is known from its log, which may end a moment after itself: that is
// waited for, unless all is wanted.
func (b *Board) News(now time.Time, all bool) []string {
	var lines []string
	for i, p := range b.news {
		if p.how != nil && !all && now.Sub(p.at) < moment && b.owes(p.how) {
			b.news = b.news[i:]
			return lines
		}
		line := p.head
		if p.how != nil {
			line += p.how.How()
		}
		lines = append(lines, line+p.tail)
	}
	b.news = nil
	for len(b.ends) > 0 && (all || now.Sub(b.ends[0].at) >= moment) {
		lines = append(lines, b.ends[0].head)
		b.ends = b.ends[1:]
	}
	return lines
}

// owes: the life of the container that failed is not known yet.
func (b *Board) owes(r *PodResult) bool {
	c := r.worst()
	return c != nil && !c.measured
}

func (b *Board) tell(format string, args ...any) { b.add(piece{head: fmt.Sprintf(format, args...)}) }

func (b *Board) add(p piece) {
	if !b.leaving {
		b.news = append(b.news, p)
	}
}

// tellOnce tells a cause, the first time.
func (b *Board) tellOnce(cause, format string, args ...any) {
	if !b.told[cause] {
		b.told[cause] = true
		b.tell(format, args...)
	}
}

// tellFailed tells that a Job has failed; a pod alone does that itself.
func (b *Board) tellFailed(now time.Time, w *work) {
	if w.job == nil || b.leaving {
		return
	}
	why := strings.TrimSuffix(w.reason+": "+explain.FirstLine(w.message), ": ")
	b.ends = append(b.ends, piece{at: now, head: fmt.Sprintf("✗ %s Failed: %s", w.name(b), why)})
}

// podEnded takes down how a pod ended, and tells if that was badly.
func (b *Board) podEnded(now time.Time, p *pod) {
	r := b.resultOf(now, p)
	r.Attempt = p.work.tries.next(p.work, r)
	p.work.results = append(p.work.results, r)
	b.over = append(b.over, ending{r, now})
	b.mark(now)
	if p.Status.Phase == corev1.PodSucceeded {
		b.units++
		return
	}
	if r.StoppedByJob {
		return
	}
	b.failed = append(b.failed, r)
	b.add(piece{now, "✗ pod " + p.Name + ": ", b.then(now, p), r})
}

// then says what follows the failure of a pod.
func (b *Board) then(now time.Time, p *pod) string {
	w := p.work
	if w.job == nil || w.ended() {
		return ""
	}
	const most = 1000 // pods, of which each failure would look at all
	if len(w.pods) > most {
		return ""
	}
	o := waitOf(now, w)
	index, indexed := kind.CompletionIndex(p.Pod)
	switch {
	case indexed && o.Lost.Has(int32(index)):
		return "" // others may be
	case o.Verdict.Target == batchv1.JobFailureTarget:
		return ""
	case !o.Wait.Until.IsZero():
		return fmt.Sprintf("; next try in %s%s", Duration(o.Wait.Until.Sub(now).Round(time.Second)), tries(o.Limits.Failures, o.Limits.Backoff))
	case o.Missing > 0:
		return "; it is tried again now"
	}
	return ""
}

// tries says which try is next, of how many: "(2 of 7)".
func tries(failures, limit int32) string {
	if limit == math.MaxInt32 || failures == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of %d)", failures+1, limit+1)
}

// restarted tells of containers that failed and are started again in their pod, and reports
// whether there are any.
func (b *Board) restarted(now time.Time, p *pod) (any bool) {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		last, attempt := s.LastTerminationState.Terminated, int(s.RestartCount)
		if s.State.Waiting == nil {
			attempt-- // the one after it has begun
		}
		if last == nil || attempt < 0 || last.ExitCode == 0 {
			continue
		}
		any = true
		key := fmt.Sprintf("restart %s %s %d", p.UID, s.Name, attempt)
		if b.told[key] {
			continue
		}
		r := PodResult{Containers: []ContainerResult{containerResult(&s, last)}}
		b.credit(p.UID, attempt, &r.Containers[0])
		next := ""
		if o, ok := explain.ObstacleOf(now, p.Pod, b.events[p.UID]); ok && o.Until.After(now) {
			next = fmt.Sprintf("; next try in %s", Duration(o.Until.Sub(now).Round(time.Second)))
		}
		b.told[key] = true
		b.add(piece{now, "✗ pod " + p.Name + ": ", next, &r})
	}
	return any
}

// patience is how long what is waited for is no news.
const patience = 2 * time.Second

// Look finds out what is waited for, and tells each cause once. It is called now and
// then, for a pod that is slow has no event.
func (b *Board) Look(now time.Time) {
	b.lookBeside(now)
	for _, w := range b.order {
		if w.ended() || w.began.IsZero() {
			continue
		}
		for _, p := range w.pods {
			if kind.PodEnded(p.Pod) || now.Sub(p.began) < patience {
				continue
			}
			b.lookAt(now, p)
		}
		b.refused(w)
	}
}

// lookAt tells what keeps a pod from going on.
func (b *Board) lookAt(now time.Time, p *pod) {
	if o, ok := explain.ObstacleOf(now, p.Pod, b.events[p.UID]); ok {
		b.tellObstacle(p.work.name(b), p, o)
		return
	}
	b.lingers(now, p)
}

// tellObstacle tells what keeps a pod of somebody from going on.
func (b *Board) tellObstacle(whose string, p *pod, o explain.Obstacle) {
	if o.Class == "crash loop" {
		return // restarted tells
	}
	if o.Crowded && strings.Contains(strings.Join(o.Why, "\n"), "Too many pods") {
		return // the run's own limit
	}
	text := o.Now
	if why := strings.Join(o.Why, "; "); why != "" {
		text += ": " + why
	}
	if !o.Helpless || !b.closed {
		for _, next := range o.Next[:min(1, len(o.Next))] {
			text += "; " + next
		}
	}
	b.tellOnce(whose+o.Class+strings.Join(o.Why, "; "), "… pod %s %s", p.Name, text)
}

// lingers tells which container keeps a pod whose work has ended.
func (b *Board) lingers(now time.Time, p *pod) {
	const late = 10 * time.Second
	var ended, run []string
	var last time.Time
	for _, s := range p.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil {
			ended = append(ended, s.Name)
			if t.FinishedAt.After(last) {
				last = t.FinishedAt.Time
			}
		} else if s.State.Running != nil {
			run = append(run, s.Name)
		}
	}
	if len(ended) == 0 || len(run) == 0 || now.Sub(last) < late {
		return
	}
	b.tellOnce("lingers "+string(p.UID), "… pod %s: %s ended %s ago, and %s still runs and keeps the pod from ending; a helper belongs into initContainers, with restartPolicy Always",
		p.Name, strings.Join(ended, ", "), Duration(now.Sub(last).Round(time.Second)), strings.Join(run, ", "))
}

// refused tells why a Job gets no pods.
func (b *Board) refused(w *work) {
	if w.job == nil {
		return
	}
	for _, ev := range b.events[w.job.UID] {
		if ev.Reason == reason.FailedCreate {
			b.tellOnce(w.name(b)+ev.Message, "… %s gets no pod: %s", w.name(b), explain.FirstLine(ev.Message))
		}
	}
}

// TellingEvents is the field selector of the events that can say why something waits. The others are of every pod
// and every Job whatever becomes of it, and of a large run most of what is watched.
var TellingEvents = fields.AndSelectors(
	fields.OneTermNotEqualSelector("reason", reason.Scheduled),
	fields.OneTermNotEqualSelector("reason", reason.Created),
	fields.OneTermNotEqualSelector("reason", reason.Started),
	fields.OneTermNotEqualSelector("reason", reason.Killing),
	fields.OneTermNotEqualSelector("reason", reason.Completed),
).String()

// covered are the reasons of events that are told in other words.
var covered = []string{
	reason.BackOff, reason.Failed, reason.FailedScheduling, reason.FailedMount, reason.FailedCreate, reason.ErrImageNeverPull,
	reason.InspectFailed, reason.FailedCreatePodSandBox, reason.IndexFailed,
	batchv1.JobReasonBackoffLimitExceeded, batchv1.JobReasonDeadlineExceeded, batchv1.JobReasonFailedIndexes, batchv1.JobReasonMaxFailedIndexesExceeded,
	batchv1.JobReasonPodFailurePolicy,
}

// warn tells of an event that warns, unless it is told otherwise; one cause is told once.
func (b *Board) warn(ev *corev1.Event) {
	if ev.Type != corev1.EventTypeWarning || slices.Contains(covered, ev.Reason) || b.becoming(ev) {
		return
	}
	b.tellOnce("event "+ev.Reason+ev.Message, "warning: %s %s: %s: %s",
		strings.ToLower(ev.InvolvedObject.Kind), ev.InvolvedObject.Name, ev.Reason, explain.FirstLine(ev.Message))
}
