package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store"
)

const (
	// bookmarkEvery is how often an idle watch is told how far it has seen.
	bookmarkEvery = time.Minute
	// bookmarkBefore is how long before its end a watch is told so again: the
	// client resumes from there.
	bookmarkBefore = 2 * time.Second
	// watchBuffer is how many events may wait for the encoder. The library
	// flushes when none waits, so that a burst shares a flush.
	watchBuffer = 64
)

// Watch returns the changes of the selected objects from a revision on, after
// their present state if the options ask so. It ends with ctx.
func (r *resource) Watch(ctx context.Context, options *internalversion.ListOptions) (watch.Interface, error) {
	if options == nil {
		options = &internalversion.ListOptions{}
	}
	view := r.store.View()
	rev, initial, err := watchStart(view, options)
	if err != nil {
		return nil, err
	}
	w := &watcher{
		resource: r,
		sel:      newSelector(r.kind, genericapirequest.NamespaceValue(ctx), options),
		events:   make(chan watch.Event, watchBuffer),
		// The end of initial events is told to who can tell it from an object.
		bookmarks: options.AllowWatchBookmarks,
		endMark:   ptr.Deref(options.SendInitialEvents, false) && options.AllowWatchBookmarks,
	}
	if initial {
		w.initial = view
	}
	if rev > view.Rev() {
		return nil, storage.NewTooLargeResourceVersionError(rev, view.Rev(), 1)
	}
	w.changes, err = r.store.Watch(r.kind.Resource, rev)
	switch {
	case errors.Is(err, store.ErrGone):
		// Kubernetes answers 200, with the error as the only event.
		return failedWatch(gone(rev, view.Rev())), nil
	case errors.Is(err, store.ErrClosed):
		return nil, apierrors.NewServiceUnavailable("the server is shutting down")
	case err != nil:
		return nil, apierrors.NewInternalError(err)
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.shared = r.encodings.join(r.kind.Resource)
	go w.run(ctx)
	return w, nil
}

// watchStart returns the revision after which to watch, and whether the
// objects as they are then are to be sent first.
func watchStart(view *store.View, o *internalversion.ListOptions) (rev uint64, initial bool, err error) {
	asked := uint64(0)
	if o.ResourceVersion != "" {
		if asked, err = strconv.ParseUint(o.ResourceVersion, 10, 64); err != nil {
			return 0, false, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
		}
	}
	switch {
	case o.SendInitialEvents != nil && *o.SendInitialEvents:
		if asked > view.Rev() {
			return 0, false, storage.NewTooLargeResourceVersionError(asked, view.Rev(), 1)
		}
		return view.Rev(), true, nil
	case asked == 0:
		return view.Rev(), o.SendInitialEvents == nil, nil
	}
	return asked, false, nil
}

// watcher feeds one watch. It is a role: run is its goroutine.
type watcher struct {
	resource *resource
	sel      *selector
	initial  *store.View // sent first, if not nil
	changes  *store.Watch
	events   chan watch.Event
	cancel   context.CancelFunc
	// shared holds encodings that other watchers of the resource use too.
	shared    *encodingSet
	bookmarks bool
	endMark   bool
}

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.events }

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.cancel() }

func (w *watcher) run(ctx context.Context) {
	defer close(w.events)
	defer w.cancel()
	defer w.resource.encodings.leave(w.shared)
	if w.initial != nil && !w.sendInitial(ctx) {
		return
	}
	w.initial = nil // release the state
	w.follow(ctx)
}

// sendInitial sends the selected objects of the initial view as ADDED.
func (w *watcher) sendInitial(ctx context.Context) bool {
	for obj := range w.resource.candidates(page{view: w.initial}, w.sel) {
		if w.sel.matches(obj) && !w.send(ctx, watch.Event{Type: watch.Added, Object: shallow(obj)}) {
			return false
		}
	}
	if !w.endMark {
		return true
	}
	mark := w.bookmark(w.initial.Rev())
	mark.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return w.send(ctx, watch.Event{Type: watch.Bookmark, Object: mark})
}

// follow sends what changes, until ctx ends or the store has moved on too far.
func (w *watcher) follow(ctx context.Context) {
	told := uint64(0) // the revision of the last thing that was sent
	for {
		next, cancel := context.WithTimeout(ctx, w.untilBookmark(ctx))
		events, rev, err := w.changes.Next(next)
		cancel()
		for i := range events {
			event, ok := w.convert(&events[i])
			if !ok {
				continue
			}
			if !w.send(ctx, event) {
				return
			}
			told = events[i].Rev
		}
		switch {
		case ctx.Err() != nil || errors.Is(err, store.ErrClosed):
			return
		case errors.Is(err, store.ErrGone):
			status := gone(rev, w.resource.store.View().Rev()).Status()
			w.send(ctx, watch.Event{Type: watch.Error, Object: &status})
			return
		case err != nil && w.bookmarks && rev > told: // time for a bookmark
			if !w.send(ctx, watch.Event{Type: watch.Bookmark, Object: w.bookmark(rev)}) {
				return
			}
			told = rev
		}
	}
}

// untilBookmark returns how long to wait for changes before a bookmark.
func (w *watcher) untilBookmark(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		if left := time.Until(end) - bookmarkBefore; left > 0 && left < bookmarkEvery {
			return left
		}
	}
	return bookmarkEvery
}

// convert returns what an event of the store means to this watch's selection.
func (w *watcher) convert(e *store.Event) (watch.Event, bool) {
	before := e.Prev != nil && w.sel.matches(e.Prev)
	after := e.Op != change.Delete && w.sel.matches(e.Object)
	switch {
	case after && before:
		return watch.Event{Type: watch.Modified, Object: w.shared.object(e.Object)}, true
	case after:
		return watch.Event{Type: watch.Added, Object: w.shared.object(e.Object)}, true
	case before && e.Op == change.Delete:
		return watch.Event{Type: watch.Deleted, Object: w.shared.object(e.Object)}, true
	case before:
		// It left the selection: the client sees its last selected state go.
		last := shallow(e.Prev)
		last.SetResourceVersion(strconv.FormatUint(e.Rev, 10))
		return watch.Event{Type: watch.Deleted, Object: last}, true
	}
	return watch.Event{}, false
}

func (w *watcher) bookmark(rev uint64) change.Object {
	obj := w.resource.kind.New()
	obj.SetResourceVersion(strconv.FormatUint(rev, 10))
	return obj
}

func (w *watcher) send(ctx context.Context, e watch.Event) bool {
	select {
	case w.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// failedWatch is a watch that tells an error and ends.
func failedWatch(err *apierrors.StatusError) watch.Interface {
	status := err.Status()
	events := make(chan watch.Event, 1)
	events <- watch.Event{Type: watch.Error, Object: &status}
	close(events)
	return watch.NewProxyWatcher(events)
}
