// Package load is who uses the engine while it is tortured: clients that write
// objects, run Jobs and CronJobs, watch and read logs, through the API and over
// HTTPS as any client does. Each tells the model what it was told.
//
// Every object is written by one client only, each write upon the state that the
// client knows (see model.Object), so that there is one right answer at every
// moment. What concurrent writers see of each other is package model's History.
package load

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/report"
	"github.com/sampan-batch/sampan/torture/victim"
)

// Namespace is where the load has its objects.
const Namespace = "torture"

// Size says how much of everything there is.
type Size struct {
	Writers, Runners, CronJobs, Watchers int
	// Pause is how long a writer waits between two writes.
	Pause time.Duration
}

// Load is all clients of one victim.
type Load struct {
	Victim *victim.Victim
	Report *report.Round
	Seed   uint64
	Size   Size
	// Lenient: the disk may be full or refuse, so that writes are refused without a
	// fault of the client's, and logs have gaps.
	Lenient bool

	ledger  *ledger
	cancel  context.CancelFunc
	workers sync.WaitGroup // who writes and runs Jobs
	lookers sync.WaitGroup // who watches
	ending  chan struct{}  // closed when nothing new is to be begun

	writers  []*writer
	watchers []*watcher
	crons    []*cronJob
}

// Random returns a source that depends on nothing but the seed and a name, so that
// what a client does does not hang on what others do at the same time.
func Random(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Start lets all clients begin. The engine must be ready.
func (l *Load) Start(ctx context.Context) (err error) {
	if l.ledger, err = openLedger(l.Victim); err != nil {
		return err
	}
	if err := EnsureNamespace(ctx, l.Victim); err != nil {
		return err
	}
	client, err := l.Victim.Client()
	if err != nil {
		return err
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.ending = make(chan struct{})
	for i := range l.Size.CronJobs {
		c := &cronJob{load: l, name: fmt.Sprint("cron-", i)}
		l.crons = append(l.crons, c)
		if err := c.create(ctx, client); err != nil {
			return err
		}
	}
	if err := l.watch(ctx); err != nil {
		return err
	}
	return l.work(ctx)
}

// EnsureNamespace makes the namespace of all objects.
func EnsureNamespace(ctx context.Context, v *victim.Victim) error {
	client, err := v.Client()
	if err != nil {
		return err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	_, err = client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// watch starts the watchers.
func (l *Load) watch(ctx context.Context) error {
	for i := range l.Size.Watchers {
		for _, resource := range []string{configMaps, secrets, jobs, pods} {
			client, err := l.Victim.Dynamic()
			if err != nil {
				return err
			}
			w := &watcher{load: l, api: apiOf(client, resource)}
			w.mirror.Name = fmt.Sprintf("watch %d of %s", i, resource)
			l.watchers = append(l.watchers, w)
			l.lookers.Go(func() { w.run(ctx) })
		}
	}
	return nil
}

// work starts those who write and those who run Jobs.
func (l *Load) work(ctx context.Context) error {
	for i := range l.Size.Writers {
		client, err := l.Victim.Dynamic()
		if err != nil {
			return err
		}
		w := newWriter(l, client, i)
		l.writers = append(l.writers, w)
		l.workers.Go(func() { w.run(ctx) })
	}
	for i := range l.Size.Runners {
		client, err := l.Victim.Client()
		if err != nil {
			return err
		}
		r := &runner{load: l, client: client, name: fmt.Sprint("job-", i), random: Random(l.Seed, fmt.Sprint("runner", i))}
		l.workers.Go(func() { r.run(ctx) })
	}
	return nil
}

// drainWithin is how long everything that was begun may take to come to its end.
const drainWithin = 3 * time.Minute

// Finish lets the clients finish what they have begun, holds what there is against
// what they were told, and ends them.
func (l *Load) Finish(ctx context.Context) {
	defer l.cancel()
	close(l.ending)
	finished := make(chan struct{})
	client, err := l.Victim.Client()
	if err != nil {
		l.Report.Find("no client after the load: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for _, c := range l.crons {
		c.finish(ctx, client)
	}
	go func() {
		l.workers.Wait()
		close(finished)
	}()
	select {
	case <-finished:
		l.check(ctx)
	case <-ctx.Done():
		l.Report.Find("clients have not finished within %s: %v", drainWithin, context.Cause(ctx))
	}
	l.cancel()
	l.workers.Wait()
	l.lookers.Wait()
}

// Abandon ends the clients, whatever they are at.
func (l *Load) Abandon() {
	close(l.ending)
	l.cancel()
	l.workers.Wait()
	l.lookers.Wait()
}

// check holds the end against the model.
func (l *Load) check(ctx context.Context) {
	var written []model.Write
	for _, w := range l.writers {
		w.verify(ctx)
		for _, o := range w.objects {
			written = append(written, o.Written()...)
		}
	}
	for _, w := range l.watchers {
		w.verify(ctx, written)
	}
}

// find reports what is wrong, unless the load is being given up.
func (l *Load) find(errs ...error) {
	for _, err := range errs {
		if err != nil {
			l.Report.Find("%v", err)
		}
	}
}

// ended: nothing new is to be begun.
func (l *Load) ended() bool {
	select {
	case <-l.ending:
		return true
	default:
		return false
	}
}

// pause waits, and returns false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// outcome is what a client was told of a write.
type outcome int

const (
	acknowledged outcome = iota
	refused
	unanswered
)

// unknownText is what the engine says of a write that may have happened: the disk
// failed at the last step.
const unknownText = "restart to continue from what the disk holds"

// outcomeOf tells what an error of a client means for its write.
func outcomeOf(err error) outcome {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return acknowledged
	case !errors.As(err, &status):
		return unanswered
	}
	s := status.Status()
	switch {
	case s.Code == 503 || s.Code == 504 || s.Code == 0 || s.Reason == metav1.StatusReasonTimeout:
		return unanswered
	case s.Code >= 500 && strings.Contains(s.Message, unknownText):
		return unanswered
	}
	return refused
}

// forWant: the server had no room, no disk or no time for a write.
func forWant(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) || strings.Contains(err.Error(), "no space left")
}

// again asks until there is an answer: err is what the server said, or ctx has
// ended. Where a disk is full or refuses, it is asked until it does no more.
func again[T any](ctx context.Context, l *Load, ask func(context.Context) (T, error)) (T, error) {
	for {
		short, cancel := context.WithTimeout(ctx, 30*time.Second)
		got, err := ask(short)
		cancel()
		wait := outcomeOf(err) == unanswered || err != nil && l.Lenient && forWant(err)
		if !wait || ctx.Err() != nil {
			return got, err
		}
		pause(ctx, 20*time.Millisecond)
	}
}
