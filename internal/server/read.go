package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/store"
)

// Get returns one object, at least as new as the options ask.
func (r *resource) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	key, err := r.key(ctx, name)
	if err != nil {
		return nil, err
	}
	view := r.store.View()
	if options != nil {
		if err := notOlderThan(view, options.ResourceVersion); err != nil {
			return nil, err
		}
	}
	obj, ok := view.Get(key)
	if !ok {
		return nil, apierrors.NewNotFound(r.gr, name)
	}
	return shallow(obj), nil
}

// notOlderThan refuses a resourceVersion that has not happened yet. (Every view
// is the latest state, so that there is nothing to wait for: the client has it
// from another server.)
func notOlderThan(view *store.View, resourceVersion string) error {
	if resourceVersion == "" {
		return nil
	}
	rev, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	if rev > view.Rev() {
		return storage.NewTooLargeResourceVersionError(rev, view.Rev(), 1)
	}
	return nil
}

// page is one answer to a list: where it begins, and in which state.
type page struct {
	view  *store.View
	start change.Key
	limit int64
	// latest: the client gave up consistency, so that a further page may be of
	// the latest state as well.
	latest bool
}

// List returns the selected objects, a page at a time if the client asks so.
func (r *resource) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	if options == nil {
		options = &internalversion.ListOptions{}
	}
	sel := newSelector(r.kind, genericapirequest.NamespaceValue(ctx), options)
	p, err := r.page(options)
	if err != nil {
		return nil, err
	}
	list := r.kind.NewList()
	items, err := newItems(list)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	more, remaining := r.fill(items, p, sel)

	m, err := meta.ListAccessor(list)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	m.SetResourceVersion(strconv.FormatUint(p.view.Rev(), 10))
	if more != nil {
		rev := int64(p.view.Rev())
		if p.latest {
			rev = -1
		} else {
			r.views.pin(p.view)
		}
		token, err := storage.EncodeContinue(continueKey(*more), "/", rev)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		m.SetContinue(token)
		if sel.all() {
			m.SetRemainingItemCount(&remaining)
		}
	}
	return list, nil
}

// page finds the state that the options ask for.
func (r *resource) page(options *internalversion.ListOptions) (page, error) {
	view := r.store.View()
	predicate := storage.SelectionPredicate{Limit: options.Limit, Continue: options.Continue}
	rev, from, err := storage.ValidateListOptions("/", storage.APIObjectVersioner{}, storage.ListOptions{
		ResourceVersion: options.ResourceVersion, ResourceVersionMatch: options.ResourceVersionMatch,
		Predicate: predicate, Recursive: true,
	})
	if err != nil {
		return page{}, err
	}
	p := page{view: view, limit: options.Limit}
	if options.Continue != "" {
		p.start = parseContinueKey(from)
		p.latest = rev == 0
	} else if err := notOlderThan(view, options.ResourceVersion); err != nil {
		return page{}, err
	}
	if rev == 0 || uint64(rev) == view.Rev() {
		return p, nil
	}
	if p.view = r.views.at(uint64(rev)); p.view != nil {
		return p, nil
	}
	if options.Continue == "" {
		return page{}, apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	}
	return page{}, continueExpired(from)
}

// continueExpired tells the client how to go on: with a token for the rest of
// the list as it is now.
func continueExpired(from string) error {
	token, err := storage.EncodeContinue(from, "/", -1)
	if err != nil {
		return apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
			"You can start a new list without the continue parameter.")
	}
	status := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response to retrieve " +
		"the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that " +
		"were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
	status.ErrStatus.ListMeta.Continue = token
	return status
}

// A continue token names the first object of the next page.

func continueKey(key change.Key) string { return "/" + key.Namespace + "/" + key.Name }

func parseContinueKey(from string) change.Key {
	namespace, name, _ := strings.Cut(strings.TrimPrefix(from, "/"), "/")
	return change.Key{Namespace: namespace, Name: name}
}

// fill puts the page's objects into items. more is the key of the first object
// that did not fit; remaining counts it and those behind, which it only does
// for a selection of all.
func (r *resource) fill(items *itemList, p page, sel *selector) (more *change.Key, remaining int64) {
	for obj := range r.candidates(p, sel) {
		if more != nil {
			remaining++
			continue
		}
		if !sel.matches(obj) {
			continue
		}
		if p.limit > 0 && int64(items.len()) >= p.limit {
			key := r.kind.KeyOf(obj)
			more, remaining = &key, 1
			if !sel.all() {
				return more, 0
			}
			continue
		}
		items.add(obj)
	}
	return more, remaining
}

// candidates yields the objects among which sel selects, from the page's start
// on, in key order.
func (r *resource) candidates(p page, sel *selector) iter.Seq[change.Object] {
	resource := r.kind.Resource
	if sel.name != "" && (sel.namespace != "" || !r.kind.Namespaced) {
		return func(yield func(change.Object) bool) {
			if obj, ok := p.view.Get(r.kind.Key(sel.namespace, sel.name)); ok {
				yield(obj)
			}
		}
	}
	if p.start != (change.Key{}) {
		return p.view.ListFrom(resource, sel.namespace, p.start)
	}
	return p.view.List(resource, sel.namespace)
}

// itemList appends to the Items of a list of any type.
type itemList struct{ items reflect.Value }

func newItems(list runtime.Object) (*itemList, error) {
	ptr, err := meta.GetItemsPtr(list)
	if err != nil {
		return nil, err
	}
	items := reflect.ValueOf(ptr).Elem()
	if items.Kind() != reflect.Slice || items.Type().Elem().Kind() != reflect.Struct {
		return nil, errors.New("server: Items is not a slice of objects")
	}
	return &itemList{items}, nil
}

func (l *itemList) len() int { return l.items.Len() }

// add appends what shallow returns of obj, in the place that the list has for it.
func (l *itemList) add(obj change.Object) {
	n := l.items.Len()
	if n == l.items.Cap() {
		l.items.Grow(max(16, n))
	}
	l.items.SetLen(n + 1)
	item := l.items.Index(n)
	if u, isMap := obj.(*unstructured.Unstructured); isMap {
		item.Set(reflect.ValueOf(shallow(u)).Elem())
		return
	}
	item.Set(reflect.ValueOf(obj).Elem())
	item.Addr().Interface().(runtime.Object).GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
}

// gone is the error of a watch that cannot be resumed.
func gone(rev, now uint64) *apierrors.StatusError {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", rev, now))
}
