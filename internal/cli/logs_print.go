package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// podLog is one log, which the API has.
type podLog struct {
	pod       *corev1.Pod
	container string
	id        string // of the container
	running   bool
}

// logReport prints logs, those that there are one after the other, in their order.
type logReport struct {
	*logsOptions
	client  kubernetes.Interface
	console *console
	shown   map[string]bool // IDs of containers whose logs are printed
	bare    bool            // no names in front
}

func (r *logReport) print(ctx context.Context, namespace string, targets []target) error {
	var logs []podLog
	var works []kind.Object
	meant := map[string]bool{}
	for _, t := range targets {
		pods, job, err := podsOf(ctx, r.client, namespace, t)
		if err != nil {
			return err
		}
		var work kind.Object = job
		if job == nil {
			work = pods[0]
		}
		if err := r.selection.there(t, work); err != nil {
			return err
		}
		works = append(works, work)
		found := r.selection.of(pods)
		if len(found) == 0 && !r.follow {
			r.console.Note("%s/%s: none of its %d pods has such a log", t.kind, t.name, len(pods))
		}
		for _, l := range found { // a pod may be named beside its Job
			if !meant[l.id] {
				meant[l.id] = true
				logs = append(logs, l)
			}
		}
		r.skipPrevious(pods)
	}
	r.bare = len(logs) == 1 && !r.follow || r.follow && r.selection.single(works)
	if r.follow {
		logs = r.ended(logs)
	}
	if err := r.inOrder(ctx, logs); err != nil || !r.follow {
		return err
	}
	return r.goOn(ctx, namespace, works)
}

// skipPrevious leaves out what was written before containers were started again. It is not
// left out when that happens from now on.
func (r *logReport) skipPrevious(pods []*corev1.Pod) {
	for _, pod := range pods {
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if last := s.LastTerminationState.Terminated; last != nil {
				r.shown[last.ContainerID] = true
			}
		}
	}
}

// ended keeps the logs that nobody writes to any more.
func (r *logReport) ended(logs []podLog) []podLog {
	var ended []podLog
	for _, l := range logs {
		if !l.running {
			ended = append(ended, l)
		}
	}
	return ended
}

// fetched is the beginning of a log, and the rest.
type fetched struct {
	log  podLog
	head []byte
	rest io.ReadCloser // nil if there is none
	err  error
}

// readAhead is how much of a log is read before its turn: all of most.
const readAhead = 64 << 10

// inOrder prints logs one after the other. The ones that follow are read meanwhile.
func (r *logReport) inOrder(ctx context.Context, logs []podLog) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	turns := make(chan chan fetched, logsAtOnce)
	go func() {
		defer close(turns)
		for _, l := range logs {
			turn := make(chan fetched, 1)
			select {
			case turns <- turn:
			case <-ctx.Done():
				return
			}
			go func() { turn <- r.fetch(ctx, l) }()
		}
	}()
	var failed []error
	for turn := range turns {
		f := <-turn
		if err := r.printLog(f); err != nil && ctx.Err() == nil {
			failed = append(failed, fmt.Errorf("log of %s: %w", logName(f.log.pod, f.log.container), err))
		}
		if err := r.console.err(); err != nil {
			return err
		}
	}
	return few(errors.Join(failed...))
}

// fetch opens a log, and reads its beginning.
func (r *logReport) fetch(ctx context.Context, l podLog) fetched {
	f := fetched{log: l}
	if f.rest, f.err = r.client.CoreV1().Pods(l.pod.Namespace).GetLogs(l.pod.Name, r.options(l.container)).Stream(ctx); f.err != nil {
		return f
	}
	var head bytes.Buffer
	_, err := io.CopyN(&head, f.rest, readAhead)
	f.head = head.Bytes()
	if err != nil { // all of it is read, or nothing more can be
		f.rest.Close()
		f.rest = nil
	}
	if !errors.Is(err, io.EOF) {
		f.err = err
	}
	return f
}

// options are what is wanted of a log.
func (r *logReport) options(container string) *corev1.PodLogOptions {
	o := &corev1.PodLogOptions{Container: container, Previous: r.selection.previous, Timestamps: r.timestamps}
	if r.since > 0 {
		o.SinceSeconds = ptr.To(int64(r.since / time.Second))
	}
	if r.tail >= 0 {
		o.TailLines = &r.tail
	}
	return o
}

// printLog prints a log that was fetched.
func (r *logReport) printLog(f fetched) error {
	r.shown[f.log.id] = true
	var in io.Reader = bytes.NewReader(f.head)
	if f.rest != nil {
		defer f.rest.Close()
		in = io.MultiReader(in, f.rest)
	}
	name := logName(f.log.pod, f.log.container)
	defer r.console.EndGroup(name)
	lines := bufio.NewReader(in)
	for r.console.err() == nil {
		line, whole, err := readLine(lines)
		if len(line) > 0 || whole {
			r.printLine(name, string(line))
		}
		if errors.Is(err, io.EOF) {
			return f.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *logReport) printLine(name, line string) {
	if r.bare {
		name = ""
	}
	r.console.GroupLog(name, "pod "+name, line)
}

// goOn prints what the pods of Jobs, and pods, write from now on, until these end.
func (r *logReport) goOn(ctx context.Context, namespace string, works []kind.Object) error {
	d := &display{logs: logsAll, timestamps: r.timestamps}
	if r.selection.failed {
		d.logs = logsFailed
	}
	output := d.logOutput(r.console)
	output.bare = r.bare
	f := newFollower(r.client, newLogReaders(ctx, r.console, output), false)
	defer f.Close()
	f.namespace, f.onlyLogs = namespace, r
	f.reading = r.shown
	for _, work := range works {
		if job, ok := work.(*batchv1.Job); ok {
			f.addExisting(job)
		}
	}
	for _, work := range works {
		if pod, ok := work.(*corev1.Pod); ok {
			f.addPod(pod)
		}
	}
	return f.Run(ctx)
}
