package cli

import (
	"context"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/kind"
)

// turn is a Job or a Pod of a run on its way to be started.
type turn struct {
	// obj is what it is, or will be, called, and as far as it is known.
	obj kind.Object
	// begin makes it run, and returns it as it is then. It is called once, in a goroutine
	// of its own; nil: obj had ended before.
	begin func(context.Context) (kind.Object, error)
	at    time.Time // when it was
	again bool      // it is one that failed before
	// former is the UID of a pod that had the name, and may still be heard of.
	former types.UID
}

// begun is what became of the call that was to begin a turn.
type begun struct {
	*turn
	obj kind.Object
	err error
}

// queue gives the Jobs and Pods of a run their turns, in the order of the input: several
// calls to the API at a time and, with a limit, no more than there is room for. It belongs
// to the goroutine of follower.Run.
//
// A limit is kept in two places. The node takes no more pods than it allows, so that it
// holds whatever happens; but for a single Job, whose parallelism says the same, and whose
// pods are bound in the commit that makes them if the node has room for many. And a Job is begun only when there is room for one of its pods,
// and may have no more at a time than the limit (see within), so that few pods ever wait for
// the node: with the node alone, each pod that ends would have the scheduler look at all the
// others, ten thousand times ten thousand, and tell of each that it does not fit. Here an
// end costs one step, however many are queued. A Job that waits to try again gives its room
// away; its pod then takes the next place on the node.
type queue struct {
	ctx     context.Context // of the calls
	limit   int32           // of pods at a time; 0: none
	waiting []*turn
	calls   int              // that are under way
	done    chan begun       // their results
	unseen  map[string]*turn // those that have begun and were not seen yet, by name
	loads   map[types.UID]int32
	load    int32 // how many pods those that have begun may have
}

// callsAtATime is how many turns begin at the same time: what keeps the engine's disk busy.
const callsAtATime = 16

func newQueue(ctx context.Context, limit int32, turns []*turn) *queue {
	return &queue{
		ctx: ctx, limit: limit, waiting: turns, done: make(chan begun, callsAtATime),
		unseen: map[string]*turn{}, loads: map[types.UID]int32{},
	}
}

// next begins those whose turn it is.
func (q *queue) next(now time.Time) {
	for len(q.waiting) > 0 && q.calls < callsAtATime {
		t := q.waiting[0]
		if q.limit > 0 && q.load >= q.limit {
			return
		}
		q.waiting[0], q.waiting = nil, q.waiting[1:]
		t.at = now
		q.unseen[board.NameOf(t.obj)] = t
		q.load += loadOf(t.obj)
		q.calls++
		go func() {
			obj, err := t.begin(q.ctx)
			q.done <- begun{t, obj, err}
		}()
	}
}

// seen says that an object is there, and returns the turn that it was begun by; nil if it
// is not new, or no work of the run.
func (q *queue) seen(obj kind.Object) *turn {
	t := q.unseen[board.NameOf(obj)]
	if t == nil || t.former == obj.GetUID() {
		return nil
	}
	delete(q.unseen, board.NameOf(obj))
	q.loads[obj.GetUID()] = loadOf(t.obj)
	q.weigh(obj, false)
	return t
}

// weigh takes note of how many pods a work may have from now on; gone: none.
func (q *queue) weigh(obj kind.Object, gone bool) {
	old, known := q.loads[obj.GetUID()]
	if !known {
		return
	}
	load := loadOf(obj)
	if gone {
		load = 0
	}
	q.loads[obj.GetUID()] = load
	q.load += load - old
}

// close gives nobody a turn any more.
func (q *queue) close() { q.waiting = nil }

// loadOf is how many pods a work may have at a time from now on.
func loadOf(obj kind.Object) int32 {
	switch obj := obj.(type) {
	case *batchv1.Job:
		if kind.JobEnd(obj) != nil {
			return 0
		}
		load := ptr.Deref(obj.Spec.Parallelism, 1)
		if c := obj.Spec.Completions; c != nil {
			load = min(load, *c-obj.Status.Succeeded)
		}
		if obj.Status.Failed > 0 {
			load = min(load, obj.Status.Active+ptr.Deref(obj.Status.Terminating, 0))
		}
		return max(load, 0)
	case *corev1.Pod:
		if kind.PodEnded(obj) {
			return 0
		}
	}
	return 1
}

// within is the parallelism of a Job of which no more than limit pods may run; 0 is no
// limit.
func within(limit int32, spec *batchv1.JobSpec) *int32 {
	if limit == 0 || ptr.Deref(spec.Parallelism, 1) <= limit {
		return spec.Parallelism
	}
	return &limit
}

// await makes the follower start the works of a run itself, which begins at a revision.
func (f *follower) await(q *queue, revision string) {
	f.queue, f.revision = q, revision
	q.waiting = slices.DeleteFunc(q.waiting, func(t *turn) bool {
		if t.begin == nil {
			f.board.Recall(t.obj)
			return true
		}
		f.board.Queue(t.obj)
		return false
	})
}

// seen takes up a work that was begun.
func (f *follower) seen(obj kind.Object) {
	t := f.queue.seen(obj)
	if t == nil {
		return
	}
	f.add(started{obj, t.at})
	early := f.early[board.NameOf(obj)]
	delete(f.early, board.NameOf(obj))
	for _, u := range early {
		f.take(u)
	}
}

// takeBegun takes up what a call that was to begin a work has brought.
func (f *follower) takeBegun(b begun) error {
	f.queue.calls--
	if b.err != nil {
		return b.err
	}
	f.seen(b.obj)
	return nil
}
