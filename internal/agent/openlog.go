package agent

import (
	"context"
	"errors"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// openLog is a log that is being read. The files of a pod that is gone stay until
// the logs that are open have been read to their ends: of one that was rotated
// only the file that is just being read would outlive their removal.
type openLog struct {
	*io.PipeReader
	path   string
	cancel context.CancelFunc
	done   chan struct{} // closed when it is read, or closed
	// owed: the node hands over this log by itself, and nobody else has it.
	owed bool
}

// Close ends the reading.
func (l *openLog) Close() error {
	l.cancel()
	return l.PipeReader.Close()
}

// logPatience is how long the files of a pod that is gone are kept for those who
// read them. Who is owed a log has as long as he needs.
const logPatience = time.Minute

// openLog opens the log at path, which must exist. The reading ends with ctx, and
// when the log is closed.
func (a *Agent) openLog(ctx context.Context, ref runner.PodRef, path string, opts crilog.Options, owed bool) (*openLog, error) {
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	l := &openLog{PipeReader: out, path: path, cancel: cancel, done: make(chan struct{}), owed: owed}
	letGo := a.keepLogs(ref.UID, l) // before it is opened: what is there then stays
	r, err := crilog.NewReader(path, opts)
	if err != nil {
		cancel()
		letGo()
		return nil, err
	}
	go func() {
		defer cancel()
		defer letGo()
		err := r.Copy(ctx, in)
		in.CloseWithError(errors.Join(err, r.Close()))
	}()
	return l, nil
}

// keepLogs keeps the files of a pod for a log, until letGo is called.
func (a *Agent) keepLogs(uid string, l *openLog) (letGo func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.pods[uid]
	if e == nil { // its files are about to be removed, or have been
		return func() { close(l.done) }
	}
	if e.logs == nil {
		e.logs = make(map[*openLog]struct{})
	}
	e.logs[l] = struct{}{}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(e.logs, l)
		close(l.done)
	}
}

// awaitLogs returns when logs have been read, or have had their time; or false,
// when ctx has ended before.
func (a *Agent) awaitLogs(ctx context.Context, logs []*openLog) bool {
	patience, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	for _, l := range logs {
		limit := patience.Done()
		if l.owed {
			limit = ctx.Done()
		}
		select {
		case <-l.done:
		case <-limit:
			if ctx.Err() != nil {
				return false
			}
		}
	}
	return true
}

// openLogs are the open logs of a pod that are at path; "": all.
func (a *Agent) openLogs(e *entry, path string) (list []*openLog) {
	if e == nil {
		return nil // it is gone already
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for l := range e.logs {
		if path == "" || l.path == path {
			list = append(list, l)
		}
	}
	return list
}

// erase removes the logs of a pod that the API has no more, when they have been
// read. If the node ends before, the next one does it.
func (a *Agent) erase(ctx context.Context, e *entry) {
	if a.awaitLogs(ctx, a.openLogs(e, "")) {
		a.files.RemoveLogs(e.ref)
	}
}

// dropLog removes the log of an attempt that is two behind, when it has been read.
func (w *podWorker) dropLog(container string, number int) {
	a, path := w.agent, w.agent.files.Log(w.ref, container, number)
	a.mu.Lock()
	e := a.pods[w.ref.UID]
	a.mu.Unlock()
	a.tasks.Go(func() {
		if !a.awaitLogs(w.ctx, a.openLogs(e, path)) {
			return // it goes with the pod's
		}
		if err := crilog.Remove(path); err != nil {
			w.log().Warn("cannot remove an old log", "path", path, "err", err)
		}
	})
}

// handOver hands the log of a container that was just started to whoever is
// owed it.
func (w *podWorker) handOver(a *attempt) {
	hand := w.agent.opts.HandLog
	if hand == nil {
		return
	}
	opts := crilog.Options{Follow: true, Ended: w.tasks[a.index].life.Done()}
	path := w.agent.files.Log(w.ref, a.container.Spec.Name, a.number)
	// Not with the pod worker's context, which ends with the pod.
	log, err := w.agent.openLog(context.WithoutCancel(w.ctx), w.ref, path, opts, true)
	if err != nil {
		out, in := io.Pipe()
		in.CloseWithError(err)
		hand(a.pod, a.container.Spec.Name, out)
		return
	}
	hand(a.pod, a.container.Spec.Name, log)
}

// LogHandler takes the log of a container, all that it writes until its end, and
// must not block. Until it is read, or closed, its files stay.
type LogHandler func(pod *corev1.Pod, container string, log io.ReadCloser)
