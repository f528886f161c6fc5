package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// follower watches Jobs and Pods to their end through the API, has a board keep the
// score, prints what their pods write and what goes wrong, and shows how far they are.
// Its state belongs to the goroutine of Run; log readers only print.
type follower struct {
	client  kubernetes.Interface
	console *console
	logs    *logReaders
	board   *board.Board
	// local begins watches without the API, where that is in this process; else nil.
	local func(context.Context, change.Resource, metav1.ListOptions) (watch.Interface, error)
	// noLogs: the API is not asked for logs; somebody else hands them to logs.
	noLogs bool
	// onlyLogs, if not nil, says which logs are wanted, and that nothing else is.
	onlyLogs *logReport
	// namespace is the only one that is looked at; "" means all of them, and that
	// whatever goes wrong there has to do with the run.
	namespace string
	// queue has the works that are still to be started. They are all that the API has to
	// do, and revision is what it was at before the first.
	queue    *queue
	revision string
	failFast bool                // the first work that fails ends it
	early    map[string][]update // about pods of works that have begun and were not seen yet
	resting  bool                // who leaves stays as a suspended Job
	streams  *streams            // nil before Run
	began    time.Time

	jobs    map[types.UID]*batchv1.Job // that are followed, as seen last
	works   map[types.UID]bool         // these and the Pods
	missing map[types.UID]*corev1.Pod  // Pods that there were, and that no watch has seen yet
	gone    map[types.UID]bool         // Jobs that are deleted
	leaving map[types.UID]bool         // works that are waited for to leave nothing running, if not nil
	read    map[types.UID]bool         // works of which a log is read, or was
	reading map[string]bool            // container IDs whose log is being read
	judged  map[string]bool            // container IDs that are known to have failed, or not
	warned  map[string]bool
	pace    pace
}

// newFollower follows works, which are Jobs and Pods. closed: nobody else changes
// anything.
func newFollower(client kubernetes.Interface, logs *logReaders, closed bool, works ...started) *follower {
	now := time.Now()
	f := &follower{
		began: now, client: client, console: logs.console, logs: logs, board: board.New(now, closed),
		jobs: map[types.UID]*batchv1.Job{}, works: map[types.UID]bool{}, missing: map[types.UID]*corev1.Pod{}, gone: map[types.UID]bool{}, read: map[types.UID]bool{}, reading: map[string]bool{}, judged: map[string]bool{},
		queue: newQueue(context.Background(), 0, nil), early: map[string][]update{}, warned: map[string]bool{}, pace: pace{shown: now.Add(time.Second - calm)},
	}
	for _, w := range works {
		f.add(w)
	}
	return f
}

// started is a Job or a Pod, and when it was created.
type started struct {
	kind.Object
	at time.Time
}

func (f *follower) add(work started) {
	f.works[work.GetUID()] = true
	if job, ok := work.Object.(*batchv1.Job); ok {
		f.jobs[job.UID] = job
	}
	f.board.Add(work.at, work.Object)
}

// update is what the watches deliver.
type update struct {
	obj  any
	gone bool
}

// stuckError is why a run ends that cannot go on.
type stuckError struct{ why string }

func (e *stuckError) Error() string { return e.why }

// lookEvery is how often it is asked what is waited for, and whether anything still can
// go on; drawEvery how often a terminal is drawn at most.
const (
	lookEvery = 500 * time.Millisecond
	drawEvery = 100 * time.Millisecond
	// missPatience is how long the API may take to say what has become of pods.
	missPatience = 5 * time.Second
)

// Run follows until all has ended, or ctx does (its cause is returned), or nothing can go
// on (a *stuckError). It may be called again, and goes on then. Close ends it for good.
func (f *follower) Run(ctx context.Context) error {
	if err := f.open(ctx); err != nil {
		return err
	}
	defer f.console.Status(nil)
	defer f.record(true)
	draw, look := time.NewTicker(drawEvery), time.NewTicker(lookEvery)
	defer draw.Stop()
	defer look.Stop()
	for !f.over() {
		if f.failFast && f.leaving == nil && f.board.HasFailed() {
			f.queue.close()
			if why := f.board.FirstFailure(time.Now()); why != "" {
				return &failedFast{why}
			}
		}
		if f.board.Awaited(time.Now()) == "" {
			f.queue.next(time.Now())
		}
		select {
		case u := <-f.streams.updates:
			f.take(u)
		case b := <-f.queue.done:
			if err := f.takeBegun(b); err != nil {
				return err
			}
		case <-draw.C:
			f.show()
		case <-look.C:
			if err := f.look(); err != nil {
				return err
			}
		case err := <-f.streams.failed:
			if ctx.Err() == nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	// What was written last may still be on its way, and so may be pods that
	// ended in the same moment as their Job, or before all pods were listed.
	f.drain(ctx)
	f.show()
	for uid, job := range f.jobs {
		if st := job.Status; !f.noLogs && f.logs.wants(nil) && !f.read[uid] && st.Succeeded+st.Failed > 0 {
			f.console.Note("warning: no log of job/%s: its pods were deleted before it could be read", job.Name)
		}
	}
	return nil
}

// Close ends the watches.
func (f *follower) Close() {
	if f.streams != nil {
		f.streams.close()
	}
}

// look finds out what is waited for, and whether anything can still go on.
func (f *follower) look() error {
	now := time.Now()
	f.board.Look(now)
	f.miss()
	if f.leaving != nil || f.queue.calls > 0 {
		return nil
	}
	if why := f.board.Stuck(now); why != "" {
		f.show()
		return &stuckError{why}
	}
	return nil
}

// miss takes note of Pods that were deleted before they could be watched.
func (f *follower) miss() {
	if len(f.missing) == 0 || !f.listed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), missPatience)
	defer cancel()
	for uid, pod := range f.missing {
		now, err := f.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && now.UID != uid {
			f.takePod(pod, true)
		}
	}
}

// listed: what there was at the beginning has been delivered.
func (f *follower) listed() bool {
	return !slices.ContainsFunc(f.streams.listed, func(done cache.InformerSynced) bool { return !done() })
}

// over: all has ended or, where that is waited for, has left.
func (f *follower) over() bool {
	if f.leaving == nil {
		return f.board.Ended()
	}
	return len(f.leaving) == 0
}

// drain reads the logs of pods that ended together with their Job, to the end.
func (f *follower) drain(ctx context.Context) {
	limit := time.After(5 * time.Second)
	settle := time.NewTicker(50 * time.Millisecond)
	defer settle.Stop()
	updates := f.streams.updates
	for last := false; !last; {
		select {
		case u := <-updates:
			f.take(u)
		case <-settle.C:
			last = f.listed() && len(updates) == 0
		case <-limit:
			last = true
		case <-ctx.Done():
			return
		}
	}
	read := make(chan bool, 1)
	go func() { read <- f.logs.await(ctx) }()
	for {
		select {
		case u := <-updates:
			f.take(u)
		case whole := <-read:
			for len(updates) > 0 {
				f.take(<-updates)
			}
			if !whole && ctx.Err() == nil {
				f.console.Note("warning: some logs are not complete")
			}
			return
		}
	}
}

func (f *follower) take(u update) {
	now := time.Now()
	switch obj := u.obj.(type) {
	case *batchv1.Job:
		f.takeJob(obj, u.gone)
	case *batchv1.JobList:
		f.takeList(obj)
	case *corev1.Pod:
		f.takePod(obj, u.gone)
	case *corev1.PodList:
		f.takePods(obj)
	case *corev1.Event:
		if f.concerns(obj) {
			f.board.Event(now, obj)
		}
	case life:
		f.board.Live(obj.pod, obj.container, obj.attempt, obj.Life)
	case error: // of a watch, which goes on
		f.warn(obj)
	}
}

// warn tells of a watch that goes on.
func (f *follower) warn(err error) {
	var silent *url.Error
	switch {
	case errors.As(err, &silent):
		f.warnOnce(fmt.Sprintf("the API does not answer, and is asked again: %v", silent.Err))
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !isExpired(err):
		f.warnOnce(err.Error())
	}
}

func (f *follower) takeJob(job *batchv1.Job, gone bool) {
	// There may be ten thousand: of one that has ended only the result is asked for.
	if job.ManagedFields = nil; kind.JobEnd(job) != nil {
		job.Spec.Template = corev1.PodTemplateSpec{}
	}
	f.seen(job)
	if f.jobs[job.UID] != nil {
		f.queue.weigh(job, gone)
		f.jobs[job.UID] = job
		f.gone[job.UID] = f.gone[job.UID] || gone
		f.left(job, gone)
		f.board.Job(time.Now(), job, gone)
	}
}

func (f *follower) takePod(pod *corev1.Pod, gone bool) {
	delete(f.missing, pod.UID)
	if owner := metav1.GetControllerOfNoCopy(pod); owner == nil {
		f.seen(pod)
	} else if of := "job/" + pod.Namespace + "/" + owner.Name; f.queue.unseen[of] != nil && !f.works[owner.UID] {
		f.early[of] = append(f.early[of], update{pod, gone})
		return
	}
	if !f.noLogs && !gone {
		f.readLogs(pod)
	}
	f.judge(pod)
	if f.leaving != nil && !gone && f.board.IsBeside(pod) {
		f.works[pod.UID], f.leaving[pod.UID] = true, true
	}
	if f.works[pod.UID] {
		f.queue.weigh(pod, gone)
		f.left(pod, gone)
	}
	f.board.Pod(time.Now(), pod, gone)
}

// workOf returns the followed work that a pod belongs to, or is.
func (f *follower) workOf(pod *corev1.Pod) (_ types.UID, followed bool) {
	for _, ref := range pod.OwnerReferences {
		if f.works[ref.UID] {
			return ref.UID, true
		}
	}
	return pod.UID, f.works[pod.UID]
}

// concerns: the event is about a Job that is followed, or a pod of it.
func (f *follower) concerns(ev *corev1.Event) bool {
	if f.namespace == "" || f.works[ev.InvolvedObject.UID] {
		return true
	}
	for _, j := range f.jobs {
		// The event may come before its pod does, so that it goes by the name.
		if ev.InvolvedObject.Kind == "Pod" && strings.HasPrefix(ev.InvolvedObject.Name, j.Name+"-") &&
			!ev.CreationTimestamp.Before(&j.CreationTimestamp) {
			return true
		}
	}
	return false
}

func (f *follower) warnOnce(line string) {
	if !f.warned[line] {
		f.warned[line] = true
		f.console.Note("warning: %s", line)
	}
}

// show tells the news, and how far the run is: on a terminal in a block that is redrawn,
// elsewhere now and then in a line.
func (f *follower) show() {
	now := time.Now()
	if f.onlyLogs != nil {
		return
	}
	f.record(f.over())
	for _, line := range f.pace.news(now, f.board.News(now, f.over())) {
		f.console.Note("%s", line)
	}
	if f.console.live {
		columns, rows := f.console.size()
		f.console.Status(f.board.Frame(now, columns, rows))
		return
	}
	if line := f.board.Line(now, 0); f.pace.due(now, f.board.Moved()) {
		f.console.Note("%s", line)
	}
}

// record hands on the pods that have ended, all of them or those of which all is known.
func (f *follower) record(all bool) {
	for _, p := range f.board.PodsEnded(time.Now(), all) {
		f.logs.records.ended(p)
	}
}
