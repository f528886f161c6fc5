package clients

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

var churn = flag.Int("churn", 5000, "Jobs that the watchers of TestWatchers see come and go")

// seen is what a watcher says of a Job: once per event.
type seen struct {
	what, name string
	version    uint64
	complete   bool
}

// TestWatchers has an informer of Go, a watch of Python and an informer of JavaScript follow
// thousands of Jobs that come, complete and are deleted, while the engine is killed and
// started again. Nothing is seen twice or out of order, nothing of a Job that lived in one
// engine is missed, and after the restart, when each is told 410 and lists again, all know
// what there is.
func TestWatchers(t *testing.T) {
	t.Parallel()
	scripts := javascript(t)
	e := newEngine(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	watchers := []*watcher{
		watchGo(ctx, t, e),
		watchScript(ctx, t, e, "python", python, filepath.Join("testdata", "python", "watch.py")),
		watchScript(ctx, t, e, "javascript", "node", filepath.Join(scripts, "watch.js")),
	}
	for _, w := range watchers {
		select {
		case <-w.began:
		case <-ctx.Done():
			t.Fatalf("%s does not begin to watch", w.name)
		}
	}
	w := watchers[0]
	create(ctx, t, e, "before", *churn/2, watchers...)
	w.until(ctx, t, func(l *ledger) bool { return l.whole("before") == *churn/2 })

	var doomed sync.WaitGroup
	doomed.Go(func() { create(ctx, t, e, "across", *churn/10) })
	w.until(ctx, t, func(l *ledger) bool { return l.whole("across") > *churn/50 })
	e.kill()
	e.start()
	doomed.Wait()
	watching(ctx, t, e, watchers)

	create(ctx, t, e, "after", *churn/2, watchers...)
	w.until(ctx, t, func(l *ledger) bool { return l.whole("after") == *churn/2 })
	empty(ctx, t, e)
	create(ctx, t, e, "last", 1)
	for _, w := range watchers {
		select {
		case <-w.ended:
		case <-ctx.Done():
			t.Fatalf("%s does not see the end: %d events", w.name, w.events.Load())
		}
		w.check(t, *churn/2)
	}
	t.Logf("%d events each", w.events.Load())
}

// create creates Jobs that delete themselves, and returns when the API has taken all. It does
// not get far ahead of the watchers: one that is slower than what happens is cut, and has to
// list again, as on any cluster.
func create(ctx context.Context, t *testing.T, e *engine, prefix string, n int, watchers ...*watcher) {
	api := e.api().BatchV1().Jobs("default")
	var at, seen atomic.Int64
	var clients, look sync.WaitGroup
	done := make(chan struct{})
	seen.Store(math.MaxInt64)
	if len(watchers) > 0 {
		look.Go(func() { slowest(watchers, prefix, &seen, done) })
	}
	defer look.Wait()
	defer close(done)
	const ahead = 200
	for range 8 {
		clients.Go(func() {
			for i := int(at.Add(1)); i <= n; i = int(at.Add(1)) {
				for int64(i)-ahead > seen.Load() && ctx.Err() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				name := fmt.Sprint(prefix, "-", i)
				if n == 1 {
					name = prefix
				}
				job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{
					TTLSecondsAfterFinished: ptr.To[int32](0),
					Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
						RestartPolicy: corev1.RestartPolicyNever,
						Containers:    []corev1.Container{{Name: "main", Image: "busybox", Command: []string{"true"}}},
					}},
				}}
				for {
					_, err := api.Create(ctx, job, metav1.CreateOptions{})
					if err == nil || strings.Contains(err.Error(), "already exists") {
						break
					}
					if ctx.Err() != nil {
						t.Errorf("create %s: %v", name, err)
						return
					}
					time.Sleep(50 * time.Millisecond) // the engine is being started
				}
			}
		})
	}
	clients.Wait()
}

// slowest keeps up to date of how many Jobs with the prefix all watchers have seen all.
func slowest(watchers []*watcher, prefix string, seen *atomic.Int64, done <-chan struct{}) {
	for {
		least := math.MaxInt
		for _, w := range watchers {
			least = min(least, w.whole(prefix))
		}
		seen.Store(int64(least))
		select {
		case <-done:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// watching returns when all watchers watch again: each waits for as long as it likes, up to
// half a minute, before it tries a server that has gone.
func watching(ctx context.Context, t *testing.T, e *engine, watchers []*watcher) {
	t.Helper()
	for i := 0; ctx.Err() == nil; i++ {
		create(ctx, t, e, fmt.Sprint("again-", i), 1)
		time.Sleep(500 * time.Millisecond)
		if !slices.ContainsFunc(watchers, func(w *watcher) bool { return w.whole("again") == 0 }) {
			return
		}
	}
	t.Fatal("not all watchers watch again")
}

// empty waits until no Job is left.
func empty(ctx context.Context, t *testing.T, e *engine) {
	t.Helper()
	for ctx.Err() == nil {
		jobs, err := e.api().BatchV1().Jobs("default").List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil && len(jobs.Items) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("Jobs are left")
}

// watcher is a client that watches.
type watcher struct {
	name   string
	began  chan struct{} // it knows what there was
	ended  chan struct{} // it has seen "last" go
	events atomic.Int64
	ledger
}

// ledger is what a watcher has said, by Job.
type ledger struct {
	mu     sync.Mutex
	of     map[string][]seen
	faults []string
}

func newWatcher(name string) *watcher {
	return &watcher{name: name, began: make(chan struct{}), ended: make(chan struct{}), ledger: ledger{of: map[string][]seen{}}}
}

// take takes what the watcher says next.
func (w *watcher) take(s seen) {
	w.events.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.of[s.name]
	switch {
	case s.what == "ADDED" && len(before) > 0:
		w.faults = append(w.faults, fmt.Sprintf("%v after %v", s, before))
	case len(before) > 0 && before[len(before)-1].what == "DELETED":
		w.faults = append(w.faults, fmt.Sprintf("%v after its end", s))
	case len(before) > 0 && s.version <= before[len(before)-1].version && !(s.what == "THERE" || s.what == "DELETED"):
		w.faults = append(w.faults, fmt.Sprintf("%v after %v", s, before[len(before)-1]))
	}
	w.of[s.name] = append(before, s)
	if s.name == "last" && s.what == "DELETED" {
		close(w.ended)
	}
}

// whole is how many Jobs with the prefix have come, completed and gone.
func (l *ledger) whole(prefix string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, events := range l.of {
		if strings.HasPrefix(name, prefix+"-") && whole(events) {
			n++
		}
	}
	return n
}

func whole(events []seen) bool {
	return len(events) >= 3 && events[0].what == "ADDED" && events[len(events)-1].what == "DELETED" &&
		slices.ContainsFunc(events, func(s seen) bool { return s.what == "MODIFIED" && s.complete })
}

func (w *watcher) until(ctx context.Context, t *testing.T, is func(*ledger) bool) {
	t.Helper()
	for !is(&w.ledger) {
		if time.Sleep(50 * time.Millisecond); ctx.Err() != nil {
			t.Fatalf("%s has not seen it: %d events; of Jobs that have not come, completed and gone: %v", w.name, w.events.Load(), w.unfinished())
		}
	}
}

// unfinished returns what was seen of a few Jobs that have not come, completed and gone.
func (l *ledger) unfinished() (some [][]seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, events := range l.of {
		if !whole(events) && len(some) < 5 {
			some = append(some, events)
		}
	}
	return some
}

// check finds faults, and Jobs of which something was missed though the engine lived as long
// as they did.
func (w *watcher) check(t *testing.T, n int) {
	t.Helper()
	for _, prefix := range []string{"before", "after"} {
		if got := w.whole(prefix); got != n {
			t.Errorf("%s: %d of %d Jobs %q were seen to come, complete and go", w.name, got, n, prefix)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, fault := range w.faults {
		if i == 5 {
			break
		}
		t.Errorf("%s: %s (%d such)", w.name, fault, len(w.faults))
	}
}

// watchGo watches with an informer.
func watchGo(ctx context.Context, t *testing.T, e *engine) *watcher {
	w := newWatcher("go")
	tell := func(what string, obj any) {
		if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = last.Obj
		}
		job := obj.(*batchv1.Job)
		version, _ := strconv.ParseUint(job.ResourceVersion, 10, 64)
		complete := slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
			return c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue
		})
		w.take(seen{what, job.Name, version, complete})
	}
	informer := informers.NewSharedInformerFactory(e.api(), 0).Batch().V1().Jobs().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { tell("ADDED", obj) },
		UpdateFunc: func(_, obj any) { tell("MODIFIED", obj) },
		DeleteFunc: func(obj any) { tell("DELETED", obj) },
	})
	if err != nil {
		t.Fatal(err)
	}
	go informer.RunWithContext(ctx)
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			close(w.began)
		}
	}()
	return w
}

// watchScript watches with a program that prints what it sees: "ADDED name version 0", and
// LISTED when it knows what there is.
func watchScript(ctx context.Context, t *testing.T, e *engine, name, program string, args ...string) *watcher {
	t.Helper()
	w := newWatcher(name)
	cmd := e.command(ctx, program, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		begin := sync.OnceFunc(func() { close(w.began) })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var s seen
			var complete int
			if _, err := fmt.Sscan(lines.Text(), &s.what, &s.name, &s.version, &complete); err != nil {
				t.Errorf("%s said %q", name, lines.Text())
			}
			s.complete = complete == 1
			if s.what == "LISTED" {
				begin()
				continue
			}
			w.take(s)
		}
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v\n%s", name, err, &said)
		}
	}()
	return w
}
