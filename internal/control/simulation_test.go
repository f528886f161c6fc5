package control

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run the simulation of this seed only")
	lives   = flag.Int("lives", 3000, "simulate so many CronJobs and Jobs")
)

const (
	livesPerWorld = 50
	stepsPerWorld = 150
)

// TestSimulation lets random CronJobs and Jobs live in worlds where users edit
// and delete, pods fail, clocks jump, and engines are stopped and killed; and
// checks after every write what must hold whatever happens.
//
// Chance and uids are the seed's alone, and where an engine has one worker there
// is one processor too, so that its goroutines get their turn in the same order:
// such a seed tells the same story again, unless the runtime interrupts one of
// them for other reasons. Every fourth world has many workers, for what only
// happens at the same time, and never tells a story twice.
func TestSimulation(t *testing.T) {
	n := *lives
	if testing.Short() {
		n = min(n, 8*livesPerWorld)
	}
	from, to := seeds((n + livesPerWorld - 1) / livesPerWorld)
	all := inWorlds(t, from, to, func(t *testing.T, seed uint64, dir string) *world {
		w := newWorld(t, seed, dir)
		w.live()
		return w
	})
	all.report(t, from, to)
	if to-from >= 15 {
		all.checkReach(t)
	}
}

// seeds are those of n worlds, or the one that was asked for.
func seeds(n int) (from, to uint64) {
	if *oneSeed != 0 {
		return *oneSeed, *oneSeed
	}
	return 1, uint64(n)
}

// inWorlds has live make a world for each seed and live in it, and returns what happened in all.
func inWorlds(t *testing.T, from, to uint64, live func(t *testing.T, seed uint64, dir string) *world) *outcome {
	all := new(outcome)
	t.Run("worlds", func(t *testing.T) {
		for seed := from; seed <= to; seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				dir := scratch(t)
				if !concurrent(seed) {
					repeatably(t, seed)
				}
				synctest.Test(t, func(t *testing.T) { all.add(live(t, seed, dir)) })
			})
		}
	})
	return all
}

// TestYear lives through a year of a daily CronJob in Los Angeles, with an engine
// that is stopped every month and killed every season.
func TestYear(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, dir)
		zone, err := time.LoadLocation("America/Los_Angeles")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, zone)
		w.jump(begin.Sub(w.now()))
		c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: theNamespace, Name: "daily"}, Spec: batchv1.CronJobSpec{
			Schedule: "30 2 * * *", TimeZone: ptr.To(zone.String()), ConcurrencyPolicy: batchv1.ForbidConcurrent,
			JobTemplate: batchv1.JobTemplateSpec{Spec: newJob("x").Spec},
		}}
		w.act(func() { w.calm = true })
		w.make(c)
		for day := range 365 {
			time.Sleep(begin.AddDate(0, 0, day).Add(12 * time.Hour).Sub(w.now()))
			synctest.Wait()
			for _, pod := range list[*corev1.Pod](w, kind.Pods) {
				if !kind.PodEnded(pod) {
					w.act(func() { w.report(pod, func(s *corev1.PodStatus) { s.Phase = corev1.PodSucceeded }) })
				}
			}
			switch {
			case day%90 == 89:
				w.kill()
				w.start()
			case day%30 == 29:
				w.stop()
				w.start()
			}
		}
		w.rest()
		if kept := w.store.View().Len(kind.Jobs); kept != 3 {
			t.Errorf("%d Jobs are kept, want 3", kept)
		}
		w.stop()
		failure, story := w.audit.verdict()
		// 2:30 did not exist on one day; that day has an event instead.
		if runs, said := len(w.audit.started[c.UID]), w.audit.reasons["MissSchedule"]; failure != "" || runs != 364 || said != 1 || w.audit.latest != 0 {
			t.Errorf("%d runs, the latest %s late, %d explanations; %s\n%s", runs, w.audit.latest, said, failure, excerpt(failure, story))
		}
	})
}

// repeatably runs the rest of a test in the same order, with the same uids, each
// time.
func repeatably(t *testing.T, seed uint64) {
	was := runtime.GOMAXPROCS(1)
	uuid.SetRand(&lottery{from: rand.New(rand.NewPCG(seed, 3))})
	t.Cleanup(func() {
		runtime.GOMAXPROCS(was)
		uuid.SetRand(nil)
	})
}

// lottery is where uids come from.
type lottery struct {
	mu   sync.Mutex
	from *rand.Rand
}

func (l *lottery) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range p {
		p[i] = byte(l.from.Uint32())
	}
	return len(p), nil
}

// scratch is a directory in memory, if there is one: what is simulated is the
// death of a process, not of the machine.
func scratch(t *testing.T) string {
	const memory = "/dev/shm"
	parent := ""
	if info, err := os.Stat(memory); err == nil && info.IsDir() {
		parent = memory
	}
	dir, err := os.MkdirTemp(parent, "sampan-simulation-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// live is the story of a world: births, turmoil, calm, and the end of all.
func (w *world) live() {
	defer func() {
		w.stop()
		if failure, story := w.audit.verdict(); failure != "" {
			w.t.Fatalf("go test ./internal/control -run Simulation -seed %d: %s\n%s", w.seed, failure, excerpt(failure, story))
		}
	}()
	born := 0
	for step := range stepsPerWorld {
		for born < livesPerWorld*(step+1)/(stepsPerWorld*2/3) && born < livesPerWorld {
			w.act(func() {
				if w.birth() {
					w.tally.add("CronJobs")
				} else {
					w.tally.add("Jobs")
				}
			})
			born++
		}
		w.step()
		if w.failed() {
			return
		}
	}
	w.revive()
	w.act(w.leave)
	for step := 0; !w.over(); step++ {
		if step == 2000 {
			w.audit.fail("not everything comes to an end: %v", w.unfinished())
			return
		}
		w.pass(time.Minute)
		if w.failed() {
			return
		}
	}
	w.rest()
	w.act(w.emptyNamespace)
	for step := 0; w.remains() > 0; step++ {
		if step == 200 {
			w.audit.fail("%d objects remain of the namespace", w.remains())
			return
		}
		w.pass(time.Minute)
	}
	if err := w.store.Check(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) failed() bool {
	failure, _ := w.audit.verdict()
	return failure != ""
}

func (w *world) fated(oneIn int) bool { return w.fate.IntN(oneIn) == 0 }

// step: time passes, the node works, somebody does something, and now and then
// something big happens.
func (w *world) step() {
	switch {
	case w.fated(6):
		w.pass(5 * time.Minute)
	default:
		w.pass(20 * time.Second)
	}
	for range w.fate.IntN(4) {
		w.act(w.user)
	}
	switch w.fate.IntN(30) {
	case 0:
		w.stop()
		w.down()
	case 1:
		w.kill()
		w.down()
	case 2, 3:
		if w.doom.Load() == 0 {
			w.doom.Store(1 + w.fate.Int64N(20))
		}
	case 4:
		if w.seed%3 == 0 {
			w.jump(time.Duration(w.fate.IntN(4*3600)-2*3600) * time.Second)
		}
	case 5:
		w.act(func() {
			for obj := range w.store.View().List(kind.Nodes, "") {
				if node := obj.(*corev1.Node); w.chance(2) {
					w.setReady(node, []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}[w.rand.IntN(2)])
				}
			}
		})
	}
	if w.fated(8) {
		w.rest()
	}
}

// down is the time between two engines.
func (w *world) down() {
	pause := time.Duration(w.fate.IntN(300)) * time.Second
	if w.fated(3) {
		pause *= time.Duration(w.fate.IntN(500))
	}
	time.Sleep(pause)
	w.start()
	synctest.Wait()
}

// revive starts another engine if the last one was killed by what it decided.
func (w *world) revive() {
	if w.killed.Load() {
		w.tally.add("engine killed by a commit")
		w.kill()
		w.down()
	}
}

// pass lets some time pass, and the node work.
func (w *world) pass(most time.Duration) {
	time.Sleep(time.Duration(w.fate.Int64N(int64(most))))
	synctest.Wait()
	w.revive()
	for _, pod := range list[*corev1.Pod](w, kind.Pods) {
		if pod.Spec.NodeName != "" && (!kind.PodEnded(pod) || pod.DeletionTimestamp != nil) && w.fated(2) {
			w.act(func() { w.node(pod) })
		}
	}
	synctest.Wait()
	w.revive()
}

// rest waits until the engine is at rest, and checks that it may be.
func (w *world) rest() {
	synctest.Wait() // the engine may be done before the audit has seen it
	for wait := time.Millisecond; wait < time.Minute && w.undecided() != ""; wait *= 4 {
		time.Sleep(wait) // what lost a race is tried again
		synctest.Wait()
	}
	if !w.killed.Load() {
		w.audit.checkRest()
		w.tally.add("rests")
	}
}

// undecided looks for something that a controller would do now, or wants to be
// woken for, without the loop knowing.
func (w *world) undecided() string {
	view, now := w.store.View(), w.now()
	controllers := w.controllers()
	seen := make(map[task]bool)
	for _, k := range w.kinds.All() {
		if k.Resource == "events" {
			continue
		}
		for obj := range view.List(k.Resource, "") {
			ev := store.Event{Op: change.Create, Key: k.KeyOf(obj), Object: obj, Rev: view.Rev()}
			for i := range controllers {
				controllers[i].Dirties(view, ev, func(key change.Key) { seen[task{i, key}] = true })
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l := New(Options{Source: FromStore(w.store), Kinds: w.kinds, Controllers: controllers, Now: func() time.Time { return now }})
	for t := range seen {
		c := &controllers[t.controller]
		set, err := l.decide(context.Background(), c, t.key, nil)
		if err != nil {
			return fmt.Sprintf("%s cannot decide about %s: %v", c.Name, t.key, err)
		}
		if len(set.Writes) > 0 {
			return fmt.Sprintf("%s would still write %d objects for %s, first %s", c.Name, len(set.Writes), t.key, set.Writes[0].Key)
		}
		if at := w.wakes[t]; !set.WakeAt.IsZero() && (at.IsZero() || at.After(set.WakeAt)) {
			return fmt.Sprintf("%s wants to look at %s at %s, and will at %s", c.Name, t.key, set.WakeAt, at)
		}
	}
	return ""
}

// over: every Job has ended or is gone, and what was deleted is.
func (w *world) over() bool { return len(w.unfinished()) == 0 }

func (w *world) unfinished() []string {
	var names []string
	for _, j := range list[*batchv1.Job](w, kind.Jobs) {
		if j.Spec.ManagedBy == nil && (finishedAs(j) == "" || j.DeletionTimestamp != nil) {
			names = append(names, j.Name)
		}
	}
	for _, c := range list[*batchv1.CronJob](w, kind.CronJobs) {
		if c.DeletionTimestamp != nil {
			names = append(names, c.Name)
		}
	}
	for _, pod := range list[*corev1.Pod](w, kind.Pods) {
		if tracked(pod) || !kind.PodEnded(pod) && pod.Spec.NodeName != "" {
			names = append(names, pod.Name)
		}
	}
	return names
}

func (w *world) remains() int {
	n := 0
	for _, resource := range []change.Resource{kind.Pods, kind.Jobs, kind.CronJobs} {
		for range w.store.View().List(resource, theNamespace) {
			n++
		}
	}
	return n
}

// excerpt is the part of the story that is about the objects named in the
// failure, and the pods of a Job that is.
func excerpt(failure string, story []string) string {
	var names []string
	for _, word := range strings.FieldsFunc(failure, func(r rune) bool { return strings.ContainsRune(" ,:;/[]\"", r) }) {
		if len(word) > 1 && (word[0] == 'j' || word[0] == 'c') && word[1] >= '0' && word[1] <= '9' {
			names = append(names, "/"+word)
		}
	}
	var lines []string
	for _, line := range story {
		if slices.ContainsFunc(names, func(name string) bool {
			return strings.Contains(line, name+" ") || strings.Contains(line, "pods/ns"+name+"-")
		}) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// outcome sums up what happened in all worlds.
type outcome struct {
	mu                      sync.Mutex
	tally, reasons, endings map[string]int
	writes                  int
	latest                  time.Duration
}

func (o *outcome) add(w *world) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tally == nil {
		o.tally, o.reasons, o.endings = make(map[string]int), make(map[string]int), make(map[string]int)
	}
	for _, sum := range []struct{ all, one map[string]int }{{o.tally, w.tally.counts}, {o.reasons, w.audit.reasons}, {o.endings, w.audit.endings}} {
		for what, n := range sum.one {
			sum.all[what] += n
		}
	}
	o.writes += w.audit.writes
	o.latest = max(o.latest, w.audit.latest)
}

func (o *outcome) report(t *testing.T, from, to uint64) {
	t.Logf("seeds %d to %d: %d CronJobs and %d Jobs lived through %d writes; no slot of an undisturbed CronJob was more than %s late",
		from, to, o.tally["CronJobs"], o.tally["Jobs"], o.writes, o.latest)
	t.Logf("what happened: %v", o.tally)
	t.Logf("how Jobs ended: %v", o.endings)
	t.Logf("events: %v", o.reasons)
}

// checkReach: the simulation does what it says it does.
func (o *outcome) checkReach(t *testing.T) {
	for _, claim := range []struct {
		seen map[string]int
		want string
	}{
		{o.tally, "CronJobs,Jobs,refused by validation,rests,somebody meddled,engine stopped,engine killed,engine killed by a commit," +
			"clock set forward,clock set back,node true ready,node false ready,pod deleted, Background,pod evicted,pod relabelled,pod created by hand"},
		{o.tally, "job suspended or resumed,job scaled,job resized,job's backoffLimit changed,job's deadline changed,job's template changed," +
			"job's ttl changed,job started by hand,job in the way"},
		{o.tally, "cronjob suspended or resumed,cronjob's schedule changed,cronjob's time zone changed,cronjob's policy changed," +
			"cronjob's limits changed,cronjob's template changed"},
		{o.endings, "Complete/CompletionsReached,Complete/SuccessPolicy,Failed/BackoffLimitExceeded,Failed/DeadlineExceeded," +
			"Failed/PodFailurePolicy,Failed/FailedIndexes,Failed/MaxFailedIndexesExceeded"},
		{o.reasons, "SuccessfulCreate,SuccessfulDelete,SawCompletedJob,MissingJob,UnexpectedJob,MissSchedule,TooManyMissedTimes," +
			"JobAlreadyActive,CronJobSuspended,Completed,Suspended,Resumed,BackOff,Scheduled,FailedScheduling"},
	} {
		for _, what := range strings.Split(strings.ReplaceAll(claim.want, "deleted, ", "deleted; "), ",") {
			if what = strings.ReplaceAll(what, "; ", ", "); claim.seen[what] == 0 {
				t.Errorf("%q never happened: the simulation does not reach it", what)
			}
		}
	}
	for _, resource := range []string{"job", "cronjob"} {
		for _, how := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
			if what := fmt.Sprintf("%s deleted, %s", resource, how); o.tally[what] == 0 {
				t.Errorf("%q never happened: the simulation does not reach it", what)
			}
		}
	}
}

func sortByRevision[T change.Object](all []T) {
	slices.SortFunc(all, func(a, b T) int { return cmp.Compare(change.RevOf(a), change.RevOf(b)) })
}
