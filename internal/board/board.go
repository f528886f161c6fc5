// Package board keeps the score of a run: what became of its Jobs and Pods, what there is
// to tell about that, what a terminal shows meanwhile, and the result.
//
// It is pure: it is told what was seen, and when, and answers. It scales from one pod to a
// hundred thousand: what has succeeded is a number, what has failed is remembered with its
// last words, and all that is shown fits the screen.
//
// In the order of events: board.go takes what was seen, news.go words what changed,
// beside.go has an eye on what the works may need, stuck.go finds out when nothing can change
// any more, frame.go draws, result.go and podresult.go are what remains.
package board

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Board is the score of one run. It is not safe for concurrent use.
type Board struct {
	began time.Time
	// closed: nobody but the run changes anything. leaving: what still runs is being
	// ended, and how is no news.
	closed, leaving bool
	works           map[types.UID]*work
	queued          map[string]*work // those whose turn has not come, by name
	order           []*work
	beside          map[string]*companion       // by namespace and name
	awaited         []*companion                // those of them that the works wait for
	pods            map[types.UID]*pod          // those that have not succeeded
	lives           map[lifeID]Life             // of containers whose pods have not told their end yet
	owed            map[lifeID]*ContainerResult // of those whose lives are not known yet
	events          map[types.UID][]*corev1.Event

	news   []piece
	ends   []piece         // of Jobs that failed, told after their pods
	told   map[string]bool // causes
	failed []*PodResult    // in the order of their ends
	over   []ending        // pods that PodsEnded has not returned yet
	ended  tally
	// recalled is how many of those that have ended did before the run began.
	recalled int
	failure  *work // the first that failed
	// changed is when something happened last.
	changed time.Time
	// done are the pods whose end was taken note of.
	done map[types.UID]struct{}
	// marks say how many works and pods had ended when.
	marks []mark
	units int // pods that have succeeded
	begun int // pods that were seen
	space map[string]bool
}

// tally counts works by how they ended.
type tally struct{ complete, failed, other int }

func (t tally) sum() int { return t.complete + t.failed + t.other }

// work is a Job, or a Pod alone, on its way.
type work struct {
	kind  string // "job", "pod"
	meta  *metav1.ObjectMeta
	job   *batchv1.Job // nil if it is a pod
	began time.Time    // when it was seen first; zero while it is queued
	end   time.Time    // when it was seen to have ended
	// carried is how many had succeeded of a Job when it was added.
	carried int
	verdict
	pods     map[types.UID]*pod // of a Job: those that have not succeeded
	results  []*PodResult       // of those that have ended
	tries    attempts
	hindered string // why nothing of it can go on
}

// verdict is how a work ended; zero as long as it has not.
type verdict struct {
	status, reason, message string
}

func (v verdict) ended() bool { return v.status != "" }

// pod is a pod on its way.
type pod struct {
	*corev1.Pod
	work  *work
	began time.Time
}

// lifeID names one life of a container.
type lifeID struct {
	pod       types.UID
	container string
	attempt   int
}

// Life is one life of a container, as its log shows it. Its times are zero if only the
// API knows them.
type Life struct {
	Began, Ended time.Time
	// Bytes is how much it wrote, and Last are the last lines of that.
	Bytes int64
	Last  []string
}

// New returns the board of a run that began now. closed: whatever is missing stays so,
// for nobody is there who could bring it.
func New(now time.Time, closed bool) *Board {
	return &Board{
		began: now, changed: now, closed: closed,
		works: map[types.UID]*work{}, queued: map[string]*work{}, pods: map[types.UID]*pod{}, lives: map[lifeID]Life{}, owed: map[lifeID]*ContainerResult{},
		events: map[types.UID][]*corev1.Event{}, told: map[string]bool{},
		done: map[types.UID]struct{}{}, space: map[string]bool{}, beside: map[string]*companion{},
	}
}

// Add adds a Job or a Pod whose end the run is about.
func (b *Board) Add(now time.Time, obj kind.Object) {
	w := newWork(now, obj)
	if w == nil {
		return
	}
	if queued := b.queued[NameOf(obj)]; queued != nil {
		delete(b.queued, NameOf(obj))
		*queued = *w
		w = queued
	} else {
		b.order = append(b.order, w)
	}
	b.space[obj.GetNamespace()] = true
	b.works[obj.GetUID()] = w
	b.changed = now
}

func newWork(began time.Time, obj kind.Object) *work {
	w := &work{began: began, pods: map[types.UID]*pod{}, tries: attempts{}}
	switch obj := obj.(type) {
	case *batchv1.Job:
		w.kind, w.job, w.meta, w.carried = "job", obj, &obj.ObjectMeta, int(obj.Status.Succeeded)
	case *corev1.Pod:
		w.kind, w.meta = "pod", &obj.ObjectMeta
	default:
		return nil
	}
	return w
}

// Job takes note of a Job; gone: it was deleted.
func (b *Board) Job(now time.Time, j *batchv1.Job, gone bool) {
	w := b.works[j.UID]
	if w == nil || w.ended() {
		return
	}
	b.changed = now
	w.job, w.meta = j, &j.ObjectMeta
	switch end := kind.JobEnd(j); {
	case end != nil:
		b.close(now, w, verdict{string(end.Type), end.Reason, end.Message})
	case gone:
		b.close(now, w, verdict{status: "Deleted"})
	}
}

// Pod takes note of a pod: one of a Job, one alone, or one of a companion.
func (b *Board) Pod(now time.Time, p *corev1.Pod, gone bool) {
	w := b.workOf(p)
	if w == nil {
		b.podBeside(now, p, gone)
		return
	}
	b.changed = now
	known := b.pods[p.UID]
	if known == nil {
		if _, done := b.done[p.UID]; gone || done {
			if w.kind == "pod" && !w.ended() {
				b.close(now, w, verdict{status: "Deleted"})
			}
			return
		}
		known = &pod{Pod: p, work: w, began: now}
		b.begun++
		b.pods[p.UID], w.pods[p.UID] = known, known
	}
	known.Pod = p
	b.restarted(now, known)
	if _, done := b.done[p.UID]; kind.PodEnded(p) && !done {
		b.done[p.UID] = struct{}{}
		b.podEnded(now, known)
	}
	if alone := w.kind == "pod"; alone && !w.ended() {
		w.meta = &p.ObjectMeta
		switch {
		case kind.PodEnded(p):
			b.close(now, w, verdictOf(p))
		case gone:
			b.close(now, w, verdict{status: "Deleted"})
		}
	}
	if gone || p.Status.Phase == corev1.PodSucceeded && !slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) {
		b.forget(known)
	}
}

// workOf returns the work that a pod belongs to, nil if it is none of the run.
func (b *Board) workOf(p *corev1.Pod) *work {
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil && b.works[owner.UID] != nil {
		return b.works[owner.UID]
	}
	return b.works[p.UID]
}

func (b *Board) forget(p *pod) {
	delete(b.pods, p.UID)
	delete(p.work.pods, p.UID)
	delete(b.events, p.UID)
}

// Event takes note of an event about a Job or a pod of the run.
func (b *Board) Event(now time.Time, ev *corev1.Event) {
	const enough = 20 // for an object
	uid := ev.InvolvedObject.UID
	b.podless(ev)
	if b.works[uid] == nil && b.pods[uid] == nil && ev.InvolvedObject.Kind != "Pod" {
		return
	}
	b.changed = now
	b.warn(ev)
	if _, done := b.done[uid]; done || b.works[uid] != nil && b.works[uid].ended() {
		return
	}
	list := b.events[uid]
	if i := slices.IndexFunc(list, func(old *corev1.Event) bool { return old.Name == ev.Name }); i >= 0 {
		list[i] = ev
		return
	}
	if len(list) >= enough {
		list = slices.Delete(list, 0, 1)
	}
	b.events[uid] = append(list, ev)
}

// Live takes note of the life of a container that has ended: that of the given attempt,
// from 0. Its pod may have told its end before or will.
func (b *Board) Live(pod types.UID, container string, attempt int, life Life) {
	id := lifeID{pod, container, attempt}
	if c := b.owed[id]; c != nil {
		delete(b.owed, id)
		c.take(life)
		return
	}
	b.lives[id] = life
}

// close takes note of the end of a work.
func (b *Board) close(now time.Time, w *work, v verdict) {
	w.verdict, w.end = v, now
	delete(b.events, w.meta.UID)
	b.count(v)
	switch v.status {
	case string(batchv1.JobComplete):
	case string(batchv1.JobFailed):
		if b.failure == nil {
			b.failure = w
		}
		b.tellFailed(now, w)
	default:
		b.tell("%s was deleted before it ended", w.name(b))
	}
	b.mark(now)
}

func (b *Board) count(v verdict) {
	switch v.status {
	case string(batchv1.JobComplete):
		b.ended.complete++
	case string(batchv1.JobFailed):
		b.ended.failed++
	default:
		b.ended.other++
	}
}

// Pods are those that were seen, and have not succeeded.
func (b *Board) Pods() []*corev1.Pod {
	all := make([]*corev1.Pod, 0, len(b.pods))
	for _, p := range b.pods {
		all = append(all, p.Pod)
	}
	return all
}

// Leave says that what still runs is being ended from now on.
func (b *Board) Leave() { b.leaving = true }

// Ended reports whether all that the run is about has ended.
func (b *Board) Ended() bool { return b.ended.sum() == len(b.order) }

// Moved grows with everything that begins or ends.
func (b *Board) Moved() int { return b.begun + len(b.done) + b.ended.sum() }

// name is how a work is called: "job/import".
func (w *work) name(b *Board) string {
	name := w.kind + "/" + w.meta.Name
	if len(b.space) > 1 {
		name += " -n " + w.meta.Namespace
	}
	return name
}
