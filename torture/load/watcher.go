package load

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sampan-batch/sampan/torture/model"
)

// watcher mirrors one kind of object, as a client library's informer does: it lists,
// watches, resumes when the connection is lost, and lists again when it is told
// 410.
type watcher struct {
	load *Load
	api  api

	mu     sync.Mutex
	mirror model.Mirror
}

// settleWithin is how long a watch may take to show what has been written.
const settleWithin = 30 * time.Second

func (w *watcher) run(ctx context.Context) {
	list := true
	for ctx.Err() == nil {
		if list {
			rev, all, err := w.api.list(ctx)
			if err != nil {
				w.retry(ctx, err)
				continue
			}
			w.load.find(w.locked(func() error { return w.mirror.Listed(rev, all) }))
			w.load.Report.Count("lists", 1)
		}
		list = w.follow(ctx)
	}
}

// retry waits a moment; an engine that is away is no finding, one that answers
// nonsense is.
func (w *watcher) retry(ctx context.Context, err error) {
	if outcomeOf(err) == refused && !apierrors.IsTooManyRequests(err) && ctx.Err() == nil {
		w.load.find(fmt.Errorf("%s: %w", w.mirror.Name, err))
	}
	pause(ctx, 20*time.Millisecond)
}

// follow watches until the connection is lost, and returns whether to list again.
func (w *watcher) follow(ctx context.Context) (list bool) {
	opts := metav1.ListOptions{ResourceVersion: strconv.FormatUint(w.revision(), 10), AllowWatchBookmarks: true}
	events, err := w.api.client.Watch(ctx, opts)
	if err != nil {
		if isGone(err) {
			return true
		}
		w.retry(ctx, err)
		return false
	}
	defer events.Stop()
	w.load.Report.Count("watches", 1)
	for e := range events.ResultChan() {
		if e.Type == watch.Error {
			if err := apierrors.FromObject(e.Object); isGone(err) {
				return true
			}
			return false // the connection broke within an event
		}
		if err := w.locked(func() error { return w.take(e) }); err != nil {
			w.load.find(err)
			return true
		}
	}
	return false
}

func isGone(err error) bool { return apierrors.IsGone(err) || apierrors.IsResourceExpired(err) }

// take gives an event to the mirror.
func (w *watcher) take(e watch.Event) error {
	obj, ok := e.Object.(metav1.Object)
	if !ok {
		return fmt.Errorf("%s: an event %s with a %T", w.mirror.Name, e.Type, e.Object)
	}
	state := stateOf(obj)
	if e.Type == watch.Bookmark {
		return w.mirror.Bookmark(state.Rev)
	}
	w.load.Report.Count("events", 1)
	if w.api.resource == jobs {
		w.load.sawJob(obj)
	}
	return w.mirror.Saw(model.Event{Type: string(e.Type), Key: w.api.resource + "/" + obj.GetName(), State: state})
}

// verify holds what the watch has shown against a list, and against all writes.
func (w *watcher) verify(ctx context.Context, written []model.Write) {
	var rev uint64
	var all map[string]model.State
	var differ []error
	for end := time.Now().Add(settleWithin); time.Now().Before(end); pause(ctx, 50*time.Millisecond) {
		var err error
		if rev, all, err = w.api.list(ctx); err != nil {
			differ = []error{fmt.Errorf("%s: %w", w.mirror.Name, err)}
			continue
		}
		// A watch says how far it has seen when there is something to say, so it
		// is the objects that have to agree.
		_ = w.locked(func() error { differ = w.mirror.Compare(min(rev, w.mirror.Revision()), all); return nil })
		if len(differ) == 0 {
			break
		}
	}
	w.load.find(differ...)
	_ = w.locked(func() error {
		n, errs := w.mirror.Check(w.ofKind(written))
		w.load.Report.Count("events checked", n)
		w.load.find(errs...)
		return nil
	})
}

// ofKind are the writes that this watch must have shown.
func (w *watcher) ofKind(written []model.Write) (own []model.Write) {
	for _, write := range written {
		if strings.HasPrefix(write.Key, w.api.resource+"/") {
			own = append(own, write)
		}
	}
	return own
}

func (w *watcher) revision() (rev uint64) {
	_ = w.locked(func() error { rev = w.mirror.Revision(); return nil })
	return rev
}

func (w *watcher) locked(do func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return do()
}
