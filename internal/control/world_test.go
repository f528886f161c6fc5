package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/endpoint"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/quota"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// world is a disk, the engine that works on it (the store, the loop with all
// controllers, the recorder, the janitor), and everybody else: users, the node,
// the clock, whoever pulls the plug. It lives in a bubble of fake time.
//
// The clock of a bubble cannot be set, so the wall clock is the bubble's with an
// offset that changes. Only what decides looks at a wall clock, and it is told
// the time, so that the offset is added, and taken off wake-up times, at the
// door of each controller.
type world struct {
	t      *testing.T
	seed   uint64
	kinds  *kind.Kinds
	dir    string
	offset atomic.Int64 // of the wall clock, from the bubble's
	audit  *audit
	// volumes are the directories of volumes that are made; nil: none can be.
	volumes *directories

	// The engine that runs, if one does.
	boots  int
	store  *store.Store
	loop   *Loop
	halt   func()       // ends its goroutines, and waits for them
	doom   atomic.Int64 // how many decisions that write it has left before it is killed; 0: it lives on
	killed atomic.Bool

	fate  *rand.Rand // what happens to the world; for the test's goroutine only
	tally tally

	// mu is held by whoever acts: the test's goroutine, or a worker in whose
	// decision somebody meddles. It is not held while anybody waits.
	mu   sync.Mutex
	rand *rand.Rand
	calm bool // users have left, and what runs succeeds
	// meddler is who acts while something is decided; nil: meddle.
	meddler func()
	made    int                // objects that users created
	wakes   map[task]time.Time // what the controllers asked for, by the wall clock
}

// tally counts what happened.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]int)
	}
	t.counts[what]++
}

// newWorld returns a world whose engine runs, in which nothing has happened.
func newWorld(t *testing.T, seed uint64, dir string) *world {
	w := &world{
		t: t, seed: seed, kinds: kind.Builtin(), dir: dir,
		fate: rand.New(rand.NewPCG(seed, 1)), rand: rand.New(rand.NewPCG(seed, 2)),
	}
	w.audit = newAudit(w)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(w.fate.Int64N(int64(365 * 24 * time.Hour))))
	w.offset.Store(int64(time.Until(begin)))
	w.start()
	for _, name := range []string{"default", theNamespace} {
		w.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	// One large node is given pods as they are created; others are looked at first.
	count, room := 1+w.fate.IntN(2), "60"
	if w.fated(3) {
		count, room = 1, "10000"
	}
	for n := range count {
		w.make(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node-", n), Labels: map[string]string{"disk": "fast"}},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse(room), corev1.ResourceCPU: resource.MustParse("8")},
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
	}
	return w
}

// make creates obj, and lets the engine see to it.
func (w *world) make(obj change.Object) {
	w.act(func() { w.create(obj) })
	synctest.Wait()
}

// theNamespace is where everything happens.
const theNamespace = "ns"

// now is the wall clock.
func (w *world) now() time.Time { return time.Now().Round(0).Add(time.Duration(w.offset.Load())) }

func (w *world) chance(oneIn int) bool { return w.rand.IntN(oneIn) == 0 }

// path is the file of the present engine.
func (w *world) path() string { return fmt.Sprintf("%s/%d.db", w.dir, w.boots) }

// start starts an engine on what the last one left.
func (w *world) start() {
	s, err := store.Open(store.Options{Path: w.path(), Codec: kind.NewCodec(w.kinds), Index: w.kinds.Index, Account: store.InTurn(kind.NamespaceLifecycle, quota.Account)})
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	recorder := NewRecorder(s, "node-0", log)
	janitor := &Janitor{Store: s, TTL: time.Hour, Max: 500}
	w.store, w.wakes = s, make(map[task]time.Time)
	w.doom.Store(0)
	w.killed.Store(false)
	controllers := w.controllers()
	for i := range controllers {
		controllers[i].Decide = w.disturbed(i, controllers[i].Decide)
	}
	options := Options{Source: FromStore(s), Kinds: w.kinds, Controllers: controllers, Recorder: recorder, Logger: log, Workers: w.workers(), Now: w.now}
	if w.volumes != nil {
		options.Volumes = w.volumes
	}
	w.loop = New(options)
	w.audit.attach(s)

	// They stop in the order in which the engine stops them.
	deciding, stopDeciding := context.WithCancel(context.Background())
	recording, stopRecording := context.WithCancel(context.Background())
	var first, second sync.WaitGroup
	first.Go(func() { _ = w.loop.Run(deciding) })
	first.Go(func() { _ = janitor.Run(deciding) })
	second.Go(func() { _ = recorder.Run(recording) })
	w.halt = func() {
		stopDeciding()
		first.Wait()
		stopRecording()
		second.Wait()
	}
}

func (w *world) controllers() []Controller {
	dir := ""
	if w.volumes != nil {
		dir = w.volumes.Dir()
	}
	return Controllers(w.kinds, sweep.Plan{}, endpoint.API{}, dir, Nodes{}, nil)
}

func (w *world) workers() int {
	if concurrent(w.seed) {
		return 8
	}
	return 1
}

func concurrent(seed uint64) bool { return seed%4 == 0 }

// decide is what a controller does.
type decide = func(time.Time, change.View, change.Key, error) change.Set

// disturbed is a controller's Decide by the wall clock, in whose course the
// world may move on before what was decided is stored, or the engine may be
// killed: before that, or right after.
func (w *world) disturbed(controller int, decide decide) decide {
	return func(now time.Time, view change.View, key change.Key, refused error) change.Set {
		if w.killed.Load() {
			return change.Set{}
		}
		set := decide(now, view, key, refused)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(set.Writes) > 0 && w.doom.Load() > 0 && w.doom.Add(-1) == 0 {
			w.killed.Store(true)
			if w.chance(2) {
				return change.Set{}
			}
		}
		if w.wakes[task{controller, key}] = set.WakeAt; !set.WakeAt.IsZero() {
			set.WakeAt = set.WakeAt.Add(-time.Duration(w.offset.Load()))
		}
		if len(set.Writes) > 0 && !w.killed.Load() && !w.calm && w.chance(15) {
			if w.tally.add("somebody meddled"); w.meddler != nil {
				w.meddler()
			} else {
				w.meddle()
			}
		}
		return set
	}
}

// act lets f act on the world, and lets the engine see to it.
func (w *world) act(f func()) {
	if w.killed.Load() {
		return
	}
	w.mu.Lock()
	f()
	w.mu.Unlock()
	if !concurrent(w.seed) {
		synctest.Wait()
	}
}

// stop ends the engine as SIGTERM does.
func (w *world) stop() {
	w.shut()
	w.tally.add("engine stopped")
}

// shut ends what runs of the engine.
func (w *world) shut() {
	w.halt()
	synctest.Wait() // the audit has seen it all: a store that is closed tells nothing
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
	w.audit.detach()
}

// kill ends the engine as SIGKILL does: what the file holds at this moment is
// all that is left.
func (w *world) kill() {
	w.killed.Store(true)
	synctest.Wait() // what had begun to be stored is
	from := w.path()
	w.boots++
	if err := copyFile(w.path(), from); err != nil {
		w.t.Fatal(err)
	}
	w.shut()
	if err := os.Remove(from); err != nil {
		w.t.Error(err)
	}
	w.tally.add("engine killed")
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// jump sets the clock.
func (w *world) jump(by time.Duration) {
	synctest.Wait() // what is being decided goes by the old time
	w.offset.Add(int64(by))
	w.audit.disturb()
	if by > 0 {
		w.tally.add("clock set forward")
	} else {
		w.tally.add("clock set back")
	}
	w.loop.ClockSet()
	synctest.Wait()
}

// create makes obj what the API makes of a client's, and reports whether it was
// accepted.
func (w *world) create(obj change.Object) bool {
	k := w.kindOf(obj)
	w.made++
	obj.SetUID(types.UID(fmt.Sprintf("uid-%d-%d", w.seed, w.made)))
	obj.SetCreationTimestamp(metav1.NewTime(w.now().Truncate(time.Second)))
	if k.Default != nil {
		k.Default(obj)
	}
	if k.Create.Admit != nil {
		if err := k.Create.Admit(obj, w.store.View()); err != nil {
			w.t.Fatal(err)
		}
	}
	if k.Create.Prepare != nil {
		k.Create.Prepare(obj)
	}
	if k.Create.Validate != nil && obj.GetNamespace() != "" {
		if errs := k.Create.Validate(obj); len(errs) > 0 {
			w.tally.add("refused by validation")
			return false
		}
	}
	var set change.Set
	set.Create(k.KeyOf(obj), obj)
	return w.apply(set)
}

// edit changes what is stored under obj's name, by the rules for clients.
func (w *world) edit(obj change.Object, what string, change func(change.Object)) {
	k := w.kindOf(obj)
	old, ok := w.store.View().Get(k.KeyOf(obj))
	if !ok {
		return
	}
	next := copyOf(old)
	change(next)
	k.Update.Prepare(next, copyOf(old))
	if errs := k.Update.Validate(next, old); len(errs) > 0 {
		w.tally.add("refused by validation")
		return
	}
	if w.replace(old, next) {
		w.tally.add(what)
	}
}

// replace stores next in the place of old.
func (w *world) replace(old, next change.Object) bool {
	return w.apply(change.Set{Writes: []change.Write{w.kindOf(next).Settle(change.Write{
		Op: change.Update, Key: w.kindOf(old).KeyOf(old), Rev: change.RevOf(old), Object: next,
	})}})
}

// remove deletes obj as a DELETE with the given propagation does.
func (w *world) remove(obj change.Object, how metav1.DeletionPropagation, grace *int64) {
	k := w.kindOf(obj)
	old, ok := w.store.View().Get(k.KeyOf(obj))
	if !ok {
		return
	}
	next := copyOf(old)
	var keep []string
	for _, f := range old.GetFinalizers() {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			keep = append(keep, f)
		}
	}
	switch how {
	case metav1.DeletePropagationForeground:
		keep = append(keep, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		keep = append(keep, metav1.FinalizerOrphanDependents)
	}
	next.SetFinalizers(keep)
	if write, ok := k.Removal(next, change.RevOf(old), w.now(), grace); ok && w.apply(change.Set{Writes: []change.Write{write}}) {
		w.tally.add(fmt.Sprintf("%s deleted, %s", strings.ToLower(k.GVK.Kind), how))
	}
}

// apply stores a set, unless somebody was faster.
func (w *world) apply(set change.Set) bool {
	_, err := w.store.Apply(context.Background(), set)
	var conflict *store.ConflictError
	switch {
	case err == nil:
		return true
	case errors.As(err, &conflict):
		w.tally.add("conflict of a client")
	default:
		w.t.Error(err)
	}
	return false
}

func copyOf(obj change.Object) change.Object { return obj.DeepCopyObject().(change.Object) }

func (w *world) kindOf(obj change.Object) *kind.Kind { return kindOf(w.t, w.kinds, obj) }

// list returns what is stored of a resource, oldest first: names are partly
// random, revisions are not.
func list[T change.Object](w *world, resource change.Resource) []T {
	var all []T
	for obj := range w.store.View().List(resource, theNamespace) {
		all = append(all, obj.(T))
	}
	sortByRevision(all)
	return all
}
