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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/sampan-batch/sampan/internal/kind"
)

// follower watches Jobs to their end through the API, prints what their pods
// write and what goes wrong, and shows how far they are. Its state belongs to
// the goroutine of Run; log readers only print.
type follower struct {
	client  kubernetes.Interface
	console *console
	logs    *logReaders
	// noLogs: the logs are not to be printed, or somebody else hands them to logs.
	noLogs  bool
	started time.Time
	// namespace is the only one that is looked at; "" means all of them, and that
	// whatever goes wrong there has to do with the Jobs.
	namespace string

	jobs     map[types.UID]*followed
	reading  map[string]bool // container IDs whose log is being read
	warned   map[string]bool
	lastLine map[types.UID]string
}

// followed is one Job on its way.
type followed struct {
	job   *batchv1.Job
	ended bool
	gone  bool // deleted before it ended
	read  bool // so is a log of it, or was
}

func newFollower(client kubernetes.Interface, logs *logReaders, noLogs bool, jobs []*batchv1.Job) *follower {
	f := &follower{
		client: client, console: logs.console, logs: logs, noLogs: noLogs, started: time.Now(),
		jobs: map[types.UID]*followed{}, reading: map[string]bool{},
		warned: map[string]bool{}, lastLine: map[types.UID]string{},
	}
	for _, j := range jobs {
		f.jobs[j.UID] = &followed{job: j}
	}
	return f
}

// update is what the watches deliver.
type update struct {
	obj  any
	gone bool
}

// Run follows until every Job has ended, or ctx does (its cause is returned).
func (f *follower) Run(ctx context.Context) error {
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	updates := make(chan update, 1024)
	deliver := func(obj any, gone bool) {
		select {
		case updates <- update{obj, gone}:
		case <-watchCtx.Done():
		}
	}
	listed, err := f.watchPods(watchCtx, deliver)
	if err != nil {
		return err
	}
	since, err := f.since()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- f.watchJobs(watchCtx, since, deliver) }()

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for !f.allEnded() {
		select {
		case u := <-updates:
			f.take(u)
			f.show()
		case <-tick.C:
			f.show() // elapsed times move on
		case err := <-failed:
			if ctx.Err() == nil {
				f.console.Status(nil)
				return err
			}
		case <-ctx.Done():
			f.console.Status(nil)
			return context.Cause(ctx)
		}
	}
	// What was written last may still be on its way, and so may be pods that
	// ended in the same moment as their Job, or before all pods were listed.
	f.drain(ctx, updates, listed)
	f.console.Status(nil)
	for _, j := range f.sorted() {
		if st := j.job.Status; !f.noLogs && !j.read && st.Succeeded+st.Failed > 0 {
			f.console.Note("warning: no log of job/%s: its pods were deleted before it could be read", j.job.Name)
		}
	}
	return nil
}

// watchPods delivers pods and events, those that there are first: when that is
// done, all of listed are true.
func (f *follower) watchPods(ctx context.Context, deliver func(obj any, gone bool)) (listed []cache.InformerSynced, err error) {
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { deliver(obj, false) },
		UpdateFunc: func(_, obj any) { deliver(obj, false) },
	}
	factory := informers.NewSharedInformerFactoryWithOptions(f.client, 0, informers.WithNamespace(f.namespace))
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Events().Informer(),
	} {
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return nil, err
		}
		listed = append(listed, registration.HasSynced)
		tell := func(_ context.Context, _ *cache.Reflector, err error) { deliver(err, false) }
		if err := informer.SetWatchErrorHandlerWithContext(tell); err != nil {
			return nil, err
		}
	}
	factory.Start(ctx.Done())
	return listed, nil
}

// drain reads the logs of pods that ended together with their Job, to the end.
func (f *follower) drain(ctx context.Context, updates <-chan update, listed []cache.InformerSynced) {
	limit := time.After(5 * time.Second)
	settle := time.NewTicker(50 * time.Millisecond)
	defer settle.Stop()
	pending := func() bool {
		return slices.ContainsFunc(listed, func(done cache.InformerSynced) bool { return !done() })
	}
	for last := false; !last; {
		select {
		case u := <-updates:
			f.take(u)
		case <-settle.C:
			last = !pending() && len(updates) == 0
		case <-limit:
			last = true
		case <-ctx.Done():
			return
		}
	}
	if !f.logs.await(ctx) && ctx.Err() == nil {
		f.console.Note("warning: some logs are not complete")
	}
}

func (f *follower) take(u update) {
	switch obj := u.obj.(type) {
	case *batchv1.Job:
		f.takeJob(obj, u.gone)
	case *batchv1.JobList:
		f.takeList(obj)
	case *corev1.Pod:
		if !f.noLogs {
			f.takePod(obj)
		}
	case *corev1.Event:
		if obj.Type == corev1.EventTypeWarning && f.concerns(obj) {
			f.warnOnce(fmt.Sprintf("%s/%s: %s: %s", strings.ToLower(obj.InvolvedObject.Kind), obj.InvolvedObject.Name, obj.Reason, obj.Message))
		}
	case error: // of a watch, which goes on
		var silent *url.Error
		switch {
		case errors.As(obj, &silent):
			f.warnOnce(fmt.Sprintf("the API does not answer, and is asked again: %v", silent.Err))
		case !errors.Is(obj, io.EOF) && !errors.Is(obj, io.ErrUnexpectedEOF) && !isExpired(obj):
			f.warnOnce(obj.Error())
		}
	}
}

func (f *follower) takeJob(job *batchv1.Job, gone bool) {
	j := f.jobs[job.UID]
	if j == nil || j.ended {
		return
	}
	j.job = job
	j.gone = gone && kind.JobEnd(job) == nil
	j.ended = gone || kind.JobEnd(job) != nil
}

// takePod reads the log of every container of a followed Job that has started.
func (f *follower) takePod(pod *corev1.Pod) {
	j := f.jobOf(pod)
	if j == nil {
		return
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if last := status.LastTerminationState.Terminated; last != nil && last.ContainerID != "" {
			j.read = true
			f.read(pod, status.Name, last.ContainerID, true)
		}
		if status.ContainerID != "" && status.State.Waiting == nil {
			j.read = true
			f.read(pod, status.Name, status.ContainerID, false)
		}
	}
}

// jobOf returns the followed Job that a pod belongs to; nil if there is none.
func (f *follower) jobOf(pod *corev1.Pod) *followed {
	for _, ref := range pod.OwnerReferences {
		if j := f.jobs[ref.UID]; j != nil {
			return j
		}
	}
	return nil
}

// read starts a reader of one container's log, once.
func (f *follower) read(pod *corev1.Pod, container, id string, previous bool) {
	if f.reading[id] {
		return
	}
	f.reading[id] = true
	opts := &corev1.PodLogOptions{Container: container, Follow: !previous, Previous: previous}
	req := f.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, opts)
	f.logs.read(logName(pod, container), req.Stream)
}

// concerns: the event is about a Job that is followed, or a pod of it.
func (f *follower) concerns(ev *corev1.Event) bool {
	if f.namespace == "" || f.jobs[ev.InvolvedObject.UID] != nil {
		return true
	}
	for _, j := range f.jobs {
		// The event may come before its pod does, so that it goes by the name.
		if ev.InvolvedObject.Kind == "Pod" && strings.HasPrefix(ev.InvolvedObject.Name, j.job.Name+"-") &&
			!ev.CreationTimestamp.Before(&j.job.CreationTimestamp) {
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

func (f *follower) allEnded() bool {
	for _, j := range f.jobs {
		if !j.ended {
			return false
		}
	}
	return true
}

// show puts one line per Job into the status block, or, without a terminal,
// prints the line of a Job whose numbers moved.
func (f *follower) show() {
	var lines []string
	for _, j := range f.sorted() {
		line := progress(j)
		if f.console.live {
			lines = append(lines, line+"  "+duration(time.Since(f.begin(j))))
		} else if f.lastLine[j.job.UID] != line {
			f.lastLine[j.job.UID] = line
			f.console.Note("%s  %s", line, duration(time.Since(f.begin(j))))
		}
	}
	f.console.Status(lines)
}

func (f *follower) begin(j *followed) time.Time {
	if j.job.Status.StartTime != nil {
		return j.job.Status.StartTime.Time
	}
	return f.started
}

func (f *follower) sorted() []*followed {
	all := make([]*followed, 0, len(f.jobs))
	for _, j := range f.jobs {
		all = append(all, j)
	}
	slices.SortFunc(all, func(a, b *followed) int {
		if c := a.job.CreationTimestamp.Compare(b.job.CreationTimestamp.Time); c != 0 {
			return c
		}
		return compareNames(a.job, b.job)
	})
	return all
}
