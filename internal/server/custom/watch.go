package custom

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store"
)

const (
	// bookmarkEvery is how often an idle watch is told how far it has seen.
	bookmarkEvery = time.Minute
	watchBuffer   = 64
)

// watcher feeds one watch. It is a role: run is its goroutine.
type watcher struct {
	*objects
	namespace string // "": all
	name      string // "": all
	opts      storage.ListOptions
	initial   *store.View // sent first, if not nil
	changes   *store.Watch
	events    chan watch.Event
	cancel    context.CancelFunc
}

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.events }

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.cancel() }

func (o *objects) watch(ctx context.Context, namespace, path string, opts storage.ListOptions) (watch.Interface, error) {
	view := o.Store.View()
	asked, err := versioner.ParseResourceVersion(opts.ResourceVersion)
	if err == nil {
		err = notOlderThan(view, opts.ResourceVersion)
	}
	if err != nil {
		return nil, err
	}
	w := &watcher{objects: o, namespace: namespace, opts: opts, events: make(chan watch.Event, watchBuffer)}
	if !opts.Recursive {
		w.name = o.key(path).Name
	}
	after := asked
	if ptr.Deref(opts.SendInitialEvents, asked == 0) {
		w.initial, after = view, view.Rev()
	} else if asked == 0 {
		after = view.Rev()
	}
	w.changes, err = o.Store.Watch(o.resource, after)
	switch {
	case errors.Is(err, store.ErrGone):
		return failed(gone(after, view.Rev())), nil
	case errors.Is(err, store.ErrClosed):
		return nil, apierrors.NewServiceUnavailable("the server is shutting down")
	case err != nil:
		return nil, apierrors.NewInternalError(err)
	}
	ctx, w.cancel = context.WithCancel(ctx)
	go w.run(ctx)
	return w, nil
}

// gone is the error of a watch whose events are not kept any more.
func gone(after, latest uint64) *apierrors.StatusError {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", after, latest))
}

// failed is a watch that tells an error and ends.
func failed(err *apierrors.StatusError) watch.Interface {
	events := make(chan watch.Event, 1)
	events <- watch.Event{Type: watch.Error, Object: &err.ErrStatus}
	close(events)
	return watch.NewProxyWatcher(events)
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.events)
	defer w.cancel()
	if w.initial != nil && !w.sendInitial(ctx) {
		return
	}
	w.initial = nil // release the state
	for told := uint64(0); ; {
		next, cancel := context.WithTimeout(ctx, bookmarkEvery)
		events, rev, err := w.changes.Next(next)
		cancel()
		for i := range events {
			event, ok, err := w.convert(&events[i])
			if err != nil {
				w.fail(ctx, err)
				return
			}
			if ok && !w.send(ctx, event) {
				return
			}
			told = events[i].Rev
		}
		switch {
		case ctx.Err() != nil || errors.Is(err, store.ErrClosed):
			return
		case errors.Is(err, store.ErrGone):
			w.send(ctx, watch.Event{Type: watch.Error, Object: &gone(rev, w.Store.View().Rev()).ErrStatus})
			return
		case err != nil && w.opts.Predicate.AllowWatchBookmarks && rev > told:
			if !w.send(ctx, w.bookmark(rev, nil)) {
				return
			}
			told = rev
		}
	}
}

// sendInitial sends the objects of the initial state as ADDED, and their end to who asked.
func (w *watcher) sendInitial(ctx context.Context) bool {
	for stored := range w.initial.List(w.resource, w.namespace) {
		obj, matches, err := w.selected(stored)
		if err != nil {
			w.fail(ctx, err)
			return false
		}
		if matches && !w.send(ctx, watch.Event{Type: watch.Added, Object: obj}) {
			return false
		}
	}
	if !ptr.Deref(w.opts.SendInitialEvents, false) || !w.opts.Predicate.AllowWatchBookmarks {
		return true
	}
	return w.send(ctx, w.bookmark(w.initial.Rev(), map[string]string{metav1.InitialEventsAnnotationKey: "true"}))
}

// selected returns an object for the library, and whether the watch is about it. The error
// is that it cannot be decoded: a webhook that converts it does not answer.
func (w *watcher) selected(stored change.Object) (obj runtime.Object, matches bool, err error) {
	if stored == nil || w.namespace != "" && stored.GetNamespace() != w.namespace || w.name != "" && stored.GetName() != w.name {
		return nil, false, nil
	}
	obj = w.makeOne()
	if err := w.decode(stored, obj); err != nil {
		return nil, false, err
	}
	matches, err = w.opts.Predicate.Matches(obj)
	return obj, matches, err
}

// fail tells an error, so that the client lists again. What cannot be told must not be left
// out: an informer would never hear of it.
func (w *watcher) fail(ctx context.Context, err error) {
	w.send(ctx, watch.Event{Type: watch.Error, Object: &apierrors.NewInternalError(err).ErrStatus})
}

// convert returns what an event of the store means to this watch's selection.
func (w *watcher) convert(e *store.Event) (event watch.Event, ok bool, err error) {
	var prev change.Object
	if e.Prev != nil {
		prev = e.Prev
	}
	last, before, err := w.selected(prev)
	if err != nil {
		return event, false, err
	}
	obj, after, err := w.selected(e.Object)
	switch {
	case err != nil:
		return event, false, err
	case e.Op == change.Delete:
		return watch.Event{Type: watch.Deleted, Object: obj}, after, nil
	case after && before:
		return watch.Event{Type: watch.Modified, Object: obj}, true, nil
	case after:
		return watch.Event{Type: watch.Added, Object: obj}, true, nil
	case before:
		// It left the selection: the client sees its last selected state go.
		err = versioner.UpdateObject(last, e.Rev)
		return watch.Event{Type: watch.Deleted, Object: last}, true, err
	}
	return event, false, nil
}

func (w *watcher) bookmark(rev uint64, annotations map[string]string) watch.Event {
	obj := w.makeOne()
	_ = versioner.UpdateObject(obj, rev)
	if m, ok := obj.(metav1.Object); ok && annotations != nil {
		m.SetAnnotations(annotations)
	}
	return watch.Event{Type: watch.Bookmark, Object: obj}
}

func (w *watcher) send(ctx context.Context, e watch.Event) bool {
	select {
	case w.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}
