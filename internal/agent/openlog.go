package agent

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

// openLog is a log that is being read. The files of a pod that is gone stay until its
// open logs have been read to their ends. A reader has only one file of a rotated log
// open, and would miss the others.
type openLog struct {
	*io.PipeReader
	path   string
	cancel context.CancelFunc
	done   chan struct{} // closed when it is read, or closed
	// owed says that the node hands over this log by itself, and that nobody can ask
	// for it again.
	owed bool
}

// Close ends the reading.
func (l *openLog) Close() error {
	l.cancel()
	return l.PipeReader.Close()
}

// logPatience is how long the files of a pod that is gone are kept for those who
// read them. A log that is owed is waited for as long as it takes.
const logPatience = time.Minute

// openLogs are the logs that are being read, by the uids of their pods.
type openLogs struct {
	mu    sync.Mutex
	byPod map[string]map[*openLog]struct{}
}

// open opens the log at path, which must exist. The reading ends with ctx, and when
// the log is closed.
func (o *openLogs) open(ctx context.Context, uid, path string, opts crilog.Options, owed bool) (*openLog, error) {
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	l := &openLog{PipeReader: out, path: path, cancel: cancel, done: make(chan struct{}), owed: owed}
	letGo := o.keep(uid, l) // before it is opened: what is there then stays
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

// keep keeps the files of a pod for a log, until letGo is called.
func (o *openLogs) keep(uid string, l *openLog) (letGo func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byPod == nil {
		o.byPod = make(map[string]map[*openLog]struct{})
	}
	if o.byPod[uid] == nil {
		o.byPod[uid] = make(map[*openLog]struct{})
	}
	o.byPod[uid][l] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.byPod[uid], l)
		if len(o.byPod[uid]) == 0 {
			delete(o.byPod, uid)
		}
		close(l.done)
	}
}

// await returns when the open logs of a pod that are at path ("": all) have been read,
// or have had their time; or false, when ctx has ended before.
func (o *openLogs) await(ctx context.Context, uid, path string) bool {
	patience, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	for _, l := range o.of(uid, path) {
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

// of returns the open logs of a pod that are at path; "": all.
func (o *openLogs) of(uid, path string) (list []*openLog) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for l := range o.byPod[uid] {
		if path == "" || l.path == path {
			list = append(list, l)
		}
	}
	return list
}
