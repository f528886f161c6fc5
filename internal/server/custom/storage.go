package custom

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// objects are those of one resource, as the library reads and writes them: between it and the
// store they are maps. It has an object in whatever version its codec makes of what is
// stored, with what the definition says of fields that are unknown, or have defaults.
//
// It implements storage.Interface, whose errors it returns.
type objects struct {
	*Server
	group    schema.GroupResource
	codec    runtime.Codec
	makeOne  func() runtime.Object
	resource change.Resource
}

var versioner = storage.APIObjectVersioner{}

// Versioner implements storage.Interface.
func (o *objects) Versioner() storage.Versioner { return versioner }

// key reads "/resource/namespace/name", or "/resource/name".
func (o *objects) key(path string) change.Key {
	namespace, name, both := strings.Cut(o.below(path), "/")
	if !both {
		namespace, name = "", namespace
	}
	return o.resource.Key(namespace, name)
}

// below is what follows the resource in a path.
func (o *objects) below(path string) string {
	return strings.Trim(strings.TrimPrefix(path, "/"+string(o.resource)), "/")
}

// encode makes a map of an object of the library's, in the version that is stored.
func (o *objects) encode(obj runtime.Object) (*unstructured.Unstructured, error) {
	if err := versioner.PrepareObjectForStorage(obj); err != nil {
		return nil, err
	}
	data, err := runtime.Encode(o.codec, obj)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	return u, u.UnmarshalJSON(data)
}

// check refuses what may not be written besides what the library refuses; stored is nil for what
// is new.
func (o *objects) check(next *unstructured.Unstructured, stored change.Object) error {
	if o.resource != kind.CustomResourceDefinitions {
		return nil
	}
	before, _ := stored.(*unstructured.Unstructured)
	return checkColumns(next, before)
}

// decode writes an object of the store's into one of the library's.
func (o *objects) decode(stored change.Object, into runtime.Object) error {
	u, isMap := stored.(*unstructured.Unstructured)
	if !isMap {
		return fmt.Errorf("%s: stored as %T", o.resource, stored)
	}
	data, err := u.MarshalJSON()
	if err != nil {
		return err
	}
	if _, _, err := o.codec.Decode(data, nil, into); err != nil {
		return &undecodable{change.RevOf(u), err} // what a webhook that converts has said
	}
	return versioner.UpdateObject(into, change.RevOf(u))
}

// Create implements storage.Interface.
func (o *objects) Create(ctx context.Context, path string, obj, out runtime.Object, _ uint64) error {
	if rev, err := o.Versioner().ObjectResourceVersion(obj); err == nil && rev != 0 {
		return storage.ErrResourceVersionSetOnCreate
	}
	key := o.key(path)
	next, err := o.encode(obj)
	if err == nil {
		err = o.check(next, nil)
	}
	if err != nil {
		return err
	}
	set := change.Set{}
	set.Create(key, next)
	result, err := o.Commit(ctx, set)
	switch {
	case isConflict(err):
		return storage.NewKeyExistsError(path, 0)
	case err != nil:
		return err
	}
	return o.answer(result.Objects[0], out)
}

func isConflict(err error) bool {
	var conflict *store.ConflictError
	return errors.As(err, &conflict)
}

// answer decodes what was written, if somebody wants to know.
func (o *objects) answer(stored change.Object, out runtime.Object) error {
	if out == nil {
		return nil
	}
	return o.decode(stored, out)
}

// current returns the stored object at a path, and the same for the library.
func (o *objects) current(path string) (change.Object, runtime.Object, error) {
	stored, ok := o.Store.View().Get(o.key(path))
	if !ok {
		return nil, nil, storage.NewKeyNotFoundError(path, 0)
	}
	obj := o.makeOne()
	return stored, obj, o.decode(stored, obj)
}

// Delete implements storage.Interface.
func (o *objects) Delete(ctx context.Context, path string, out runtime.Object, preconditions *storage.Preconditions,
	validate storage.ValidateObjectFunc, _ runtime.Object, opts storage.DeleteOptions) error {
	unread := opts.ExpectTransformOrDecodeError // what can be read is not deleted so
	for {
		stored, obj, err := o.current(path)
		switch {
		case unread && err == nil:
			return Decodable(o.place(path))
		case unread && errors.As(err, new(*undecodable)):
			obj, out = nil, nil
		case err != nil:
			return err
		}
		if err := preconditions.Check(path, obj); err != nil {
			return err
		}
		if err := validate(ctx, obj); err != nil {
			return err
		}
		set := change.Set{}
		set.Delete(o.key(path), change.RevOf(stored))
		result, err := o.Commit(ctx, set)
		if isConflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		return o.answer(result.Objects[0], out)
	}
}

// Get implements storage.Interface.
func (o *objects) Get(_ context.Context, path string, opts storage.GetOptions, out runtime.Object) error {
	view := o.Store.View()
	if err := notOlderThan(view, opts.ResourceVersion); err != nil {
		return err
	}
	stored, ok := view.Get(o.key(path))
	if ok {
		return o.corrupt(path, o.decode(stored, out))
	}
	if opts.IgnoreNotFound {
		return runtime.SetZeroValue(out)
	}
	return storage.NewKeyNotFoundError(path, 0)
}

// notOlderThan refuses a resourceVersion that has not happened yet.
func notOlderThan(view *store.View, version string) error {
	rev, err := versioner.ParseResourceVersion(version)
	if err == nil && rev > view.Rev() {
		err = storage.NewTooLargeResourceVersionError(rev, view.Rev(), 1)
	}
	return err
}

// GetList implements storage.Interface.
func (o *objects) GetList(ctx context.Context, path string, opts storage.ListOptions, list runtime.Object) error {
	view, start, err := o.page(opts)
	if err != nil {
		return err
	}
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	to, name := reflect.ValueOf(items).Elem(), ""
	if !opts.Recursive {
		name = o.key(path).Name
	}
	to.Set(reflect.MakeSlice(to.Type(), 0, 0))
	damaged := corruptions{group: o.group}
	next, left := "", int64(0) // where the next page begins, and how many objects it and those behind it have
	for stored := range view.ListFrom(o.resource, o.namespace(path, opts.Recursive), start) {
		switch {
		case name != "" && stored.GetName() != name:
			continue
		case next == "" && opts.Predicate.Limit > 0 && int64(to.Len()) == opts.Predicate.Limit:
			next = "/" + stored.GetNamespace() + "/" + stored.GetName()
		}
		if left++; next != "" {
			continue
		}
		left = 0
		if err := o.include(ctx, stored, opts, to); damaged.add("/registry"+o.place(stored.GetNamespace()+"/"+stored.GetName()), err) {
			break
		}
	}
	if err := damaged.err(); err != nil {
		return err
	}
	return o.finish(view, list, opts, next, left)
}

// include adds an object to the items of a list, if that is about it.
func (o *objects) include(ctx context.Context, stored change.Object, opts storage.ListOptions, to reflect.Value) error {
	if err := ctx.Err(); err != nil { // a webhook that converts the objects may not answer
		return apierrors.NewTimeoutError("the list did not complete in time", 0)
	}
	obj := o.makeOne()
	if err := o.decode(stored, obj); err != nil {
		return err
	}
	matches, err := opts.Predicate.Matches(obj)
	if matches && err == nil {
		to.Set(reflect.Append(to, reflect.ValueOf(obj).Elem()))
	}
	return err
}

// finish says of a list which state it is of, and how the next page is had. How many
// objects are left is only known when all of them are selected.
func (o *objects) finish(view *store.View, list runtime.Object, opts storage.ListOptions, next string, left int64) error {
	if next == "" {
		return versioner.UpdateList(list, view.Rev(), "", nil)
	}
	o.Pin(view)
	token, err := storage.EncodeContinue(next, "/", int64(view.Rev()))
	if err != nil {
		return err
	}
	if !opts.Predicate.Empty() {
		return versioner.UpdateList(list, view.Rev(), token, nil)
	}
	return versioner.UpdateList(list, view.Rev(), token, &left)
}

// namespace is the one that a path is about; "": all of them.
func (o *objects) namespace(path string, recursive bool) string {
	if recursive {
		return o.below(path)
	}
	return o.key(path).Namespace
}

// page returns the state that a list is of, and where in it the page begins.
func (o *objects) page(opts storage.ListOptions) (view *store.View, start change.Key, err error) {
	view = o.Store.View()
	rev, from, err := storage.ValidateListOptions("/", versioner, opts)
	if err != nil {
		return nil, start, err
	}
	if from != "" && opts.Predicate.Continue != "" {
		namespace, name, _ := strings.Cut(strings.TrimPrefix(from, "/"), "/")
		start = change.Key{Namespace: namespace, Name: name}
	} else if err := notOlderThan(view, opts.ResourceVersion); err != nil {
		return nil, start, err
	}
	if rev <= 0 || uint64(rev) == view.Rev() {
		return view, start, nil
	}
	if view = o.At(uint64(rev)); view != nil {
		return view, start, nil
	}
	if opts.Predicate.Continue == "" {
		return nil, start, apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	}
	return nil, start, o.Expired(from)
}

// GuaranteedUpdate implements storage.Interface.
func (o *objects) GuaranteedUpdate(ctx context.Context, path string, out runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, update storage.UpdateFunc, _ runtime.Object) error {
	for {
		stored, obj, err := o.current(path)
		rev := uint64(0)
		switch {
		case storage.IsNotFound(err) && ignoreNotFound:
			obj = o.makeOne()
		case err != nil:
			return err
		default:
			rev = change.RevOf(stored)
		}
		if err := preconditions.Check(path, obj); err != nil {
			return err
		}
		next, _, err := update(obj, storage.ResponseMeta{ResourceVersion: rev})
		if err != nil {
			return err
		}
		written, err := o.write(ctx, o.key(path), rev, stored, next)
		if isConflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		return o.decode(written, out)
	}
}

// write makes the stored object be as the library wants it, and returns it. What does not
// change is not written.
func (o *objects) write(ctx context.Context, key change.Key, rev uint64, stored change.Object, next runtime.Object) (change.Object, error) {
	u, err := o.encode(next)
	if err == nil {
		err = o.check(u, stored)
	}
	if err != nil {
		return nil, err
	}
	set := change.Set{}
	if rev == 0 {
		set.Create(key, u)
	} else {
		if u.SetResourceVersion(strconv.FormatUint(rev, 10)); reflect.DeepEqual(u, stored) {
			return stored, nil
		}
		set.Update(key, rev, u)
	}
	result, err := o.Commit(ctx, set)
	if err != nil {
		return nil, err
	}
	return result.Objects[0], nil
}

// Watch implements storage.Interface.
func (o *objects) Watch(ctx context.Context, path string, opts storage.ListOptions) (watch.Interface, error) {
	return o.watch(ctx, o.namespace(path, opts.Recursive), path, opts)
}

// Stats implements storage.Interface.
func (o *objects) Stats(context.Context) (storage.Stats, error) {
	return storage.Stats{ObjectCount: int64(o.Store.View().Len(o.resource))}, nil
}

// ReadinessCheck implements storage.Interface.
func (o *objects) ReadinessCheck() error { return nil }

// RequestWatchProgress implements storage.Interface: bookmarks come by themselves.
func (o *objects) RequestWatchProgress(context.Context) error { return nil }

// GetCurrentResourceVersion implements storage.Interface.
func (o *objects) GetCurrentResourceVersion(context.Context) (uint64, error) {
	return o.Store.View().Rev(), nil
}

// EnableResourceSizeEstimation implements storage.Interface: nobody asks for sizes.
func (o *objects) EnableResourceSizeEstimation(storage.KeysFunc) error { return nil }

// CompactRevision implements storage.Interface: nothing is compacted.
func (o *objects) CompactRevision() int64 { return 0 }
