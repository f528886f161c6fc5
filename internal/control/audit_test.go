package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// audit follows every write, at the time at which it is committed, keeps books
// of its own, and says when what must always hold does not.
type audit struct {
	world *world
	watch sync.WaitGroup

	mu       sync.Mutex
	failure  string
	story    []string // one line for each write
	writes   int
	reasons  map[string]int // events, by their reason
	endings  map[string]int // of Jobs
	objects  map[change.Key]change.Object
	pods     map[types.UID]map[string]*corev1.Pod // by the Job that controls them
	started  map[types.UID]map[string]types.UID   // by CronJob: the Jobs that were started, by slot
	indexes  map[types.UID]map[int32]bool         // by Job: what succeeded
	touched  map[types.UID]time.Time              // by CronJob: when it or a Job of it was last written
	upset    time.Time                            // when the engine started, or the clock was set
	move     move
	also     func(store.Event) // is told of each write but those of events, too
	latest   time.Duration     // that a slot was started after its time
	finished int
}

func newAudit(w *world) *audit {
	return &audit{
		world: w, reasons: make(map[string]int), endings: make(map[string]int),
		objects: make(map[change.Key]change.Object), pods: make(map[types.UID]map[string]*corev1.Pod),
		started: make(map[types.UID]map[string]types.UID), indexes: make(map[types.UID]map[int32]bool),
		touched: make(map[types.UID]time.Time),
	}
}

func (a *audit) fail(format string, args ...any) {
	if a.failure == "" {
		a.failure = fmt.Sprintf(format, args...)
	}
}

// verdict returns what was found, with the part of the story that is about it.
func (a *audit) verdict() (failure string, story []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure, a.story
}

// disturb: what should have happened at its time may be late.
func (a *audit) disturb() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.upset = a.world.now()
}

// attach follows the store of an engine that has just been opened. It must hold
// all that the last one had acknowledged, but for Events.
func (a *audit) attach(s *store.Store) {
	a.disturb()
	view := s.View()
	n := 0
	for _, resource := range []change.Resource{kind.Pods, kind.Jobs, kind.CronJobs} {
		for obj := range view.List(resource, "") {
			n++
			have := a.objects[a.world.kindOf(obj).KeyOf(obj)]
			if have == nil || have.GetResourceVersion() != obj.GetResourceVersion() {
				a.fail("%s %s is on disk at revision %s, and was not before", resource, obj.GetName(), obj.GetResourceVersion())
			}
		}
	}
	if n != len(a.objects) {
		a.fail("the disk holds %d objects, %d were acknowledged", n, len(a.objects))
	}
	w, err := s.Watch("", view.Rev())
	if err != nil {
		a.world.t.Fatal(err)
	}
	a.watch.Go(func() {
		for {
			events, _, err := w.Next(context.Background())
			if err != nil {
				return // closed
			}
			a.mu.Lock()
			for _, ev := range events {
				a.see(ev)
			}
			a.mu.Unlock()
		}
	})
}

// detach waits until a store that was closed has been followed to its end.
func (a *audit) detach() { a.watch.Wait() }

// see takes one write to the books.
func (a *audit) see(ev store.Event) {
	a.writes++
	if event, ok := ev.Object.(*corev1.Event); ok {
		if ev.Op != change.Delete {
			before := int32(0)
			if ev.Prev != nil {
				before = ev.Prev.(*corev1.Event).Count
			}
			a.reasons[event.Reason] += int(event.Count - before)
		}
		return
	}
	if a.also != nil {
		a.also(ev)
	}
	a.story = append(a.story, a.line(ev))
	if !a.move.at.Equal(a.world.now()) {
		a.closeMove() // a set is seen at once
	}
	if ev.Op == change.Update {
		a.checkObject(ev.Prev, ev.Object)
	}
	switch obj := ev.Object.(type) {
	case *corev1.Pod:
		a.seePod(ev, obj)
	case *batchv1.Job:
		a.seeJob(ev, obj)
	case *batchv1.CronJob:
		a.closeMove()
		a.seeCronJob(ev, obj)
	default:
		a.closeMove()
		return
	}
	if ev.Op == change.Delete {
		delete(a.objects, ev.Key)
	} else {
		a.objects[ev.Key] = ev.Object
	}
}

// line tells of a write in one line.
func (a *audit) line(ev store.Event) string {
	text := fmt.Sprintf("%s %d %s %s", a.world.now().Format("01-02 15:04:05.000"), ev.Rev,
		map[change.Op]string{change.Create: "create", change.Update: "update", change.Delete: "delete"}[ev.Op], ev.Key)
	if ev.Object.GetDeletionTimestamp() != nil {
		text += fmt.Sprintf(" leaving %v", ev.Object.GetFinalizers())
	}
	switch obj := ev.Object.(type) {
	case *corev1.Pod:
		text += fmt.Sprintf(" %s on %q, tracked %v", obj.Status.Phase, obj.Spec.NodeName, tracked(obj))
	case *batchv1.Job:
		s := &obj.Status
		text += fmt.Sprintf(" active %d succeeded %d %s failed %d %s of %d, parallelism %d, suspended %v, %v", s.Active, s.Succeeded, s.CompletedIndexes,
			s.Failed, ptr.Deref(s.FailedIndexes, ""), ptr.Deref(obj.Spec.Completions, -1), *obj.Spec.Parallelism, *obj.Spec.Suspend, conditionsOf(obj))
	case *batchv1.CronJob:
		text += fmt.Sprintf(" %q %s suspended %v, last %v, %d active", obj.Spec.Schedule, obj.Spec.ConcurrencyPolicy, *obj.Spec.Suspend,
			obj.Status.LastScheduleTime, len(obj.Status.Active))
	}
	return text
}

// checkObject: what holds for every object.
func (a *audit) checkObject(old, next change.Object) {
	switch {
	case old.GetUID() != next.GetUID() || !old.GetCreationTimestamp().Time.Equal(next.GetCreationTimestamp().Time):
		a.fail("%s is another object", next.GetName())
	case old.GetDeletionTimestamp() != nil && next.GetDeletionTimestamp() == nil:
		a.fail("%s is not deleted any more", next.GetName())
	}
}

// checkRest looks at everything when the engine has come to rest: each status
// says how it is, and no controller has anything left to do.
func (a *audit) checkRest() {
	w := a.world
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closeMove()
	view := w.store.View()
	for obj := range view.List(kind.Jobs, "") {
		a.checkStatus(obj.(*batchv1.Job))
	}
	for obj := range view.List(kind.CronJobs, "") {
		a.checkHistory(view, obj.(*batchv1.CronJob))
	}
	if what := w.undecided(); what != "" {
		a.fail("at rest, %s", what)
	}
}
