package server

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sampan-batch/sampan/internal/change"
)

// encodings lets the watchers of one resource share the encoding of each
// object: the first one encodes, the others send the same bytes.
type encodings struct {
	mu   sync.Mutex
	sets map[change.Resource]*encodingSet
}

func newEncodings() *encodings {
	return &encodings{sets: map[change.Resource]*encodingSet{}}
}

// sharedObjects is how many of the latest objects of a resource are kept
// encoded while somebody watches it.
const sharedObjects = 256

// encodingSet is shared by the watchers of one resource.
type encodingSet struct {
	resource change.Resource
	watchers atomic.Int32
	// recent holds the encodings of the latest objects, by revision modulo
	// length.
	recent [sharedObjects]atomic.Pointer[encoded]
}

// join returns the set of a resource for one more watcher.
func (e *encodings) join(resource change.Resource) *encodingSet {
	e.mu.Lock()
	defer e.mu.Unlock()
	set := e.sets[resource]
	if set == nil {
		set = &encodingSet{resource: resource}
		e.sets[resource] = set
	}
	set.watchers.Add(1)
	return set
}

// leave drops what nobody shares any more.
func (e *encodings) leave(set *encodingSet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if set.watchers.Add(-1) == 0 {
		delete(e.sets, set.resource)
	}
}

// object returns obj in the form to send it to a watcher.
func (s *encodingSet) object(obj change.Object) runtime.Object {
	if s.watchers.Load() < 2 {
		return shallow(obj) // nobody to share with
	}
	slot := &s.recent[revision(obj)%sharedObjects]
	if e := slot.Load(); e != nil && e.Object == obj {
		return e
	}
	e := &encoded{Object: obj, done: map[runtime.Identifier]*encoding{}}
	slot.Store(e) // two at a time both encode; no harm
	return e
}

// encoded is an object of the store that remembers its encodings. It
// implements runtime.CacheableObject.
type encoded struct {
	change.Object

	mu   sync.Mutex
	done map[runtime.Identifier]*encoding
}

type encoding struct {
	once sync.Once
	data []byte
	err  error
}

var _ runtime.CacheableObject = &encoded{}

// CacheEncode writes the encoding that id names, made by encode once.
func (e *encoded) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	e.mu.Lock()
	enc := e.done[id]
	if enc == nil {
		enc = &encoding{}
		e.done[id] = enc
	}
	e.mu.Unlock()
	enc.once.Do(func() {
		var buf bytes.Buffer
		enc.err = encode(e.GetObject(), &buf)
		enc.data = buf.Bytes()
	})
	if enc.err != nil {
		return enc.err
	}
	if splice, ok := w.(runtime.Splice); ok {
		splice.Splice(enc.data)
		return nil
	}
	_, err := w.Write(enc.data)
	return err
}

// GetObject returns a copy that an encoder may write TypeMeta into.
func (e *encoded) GetObject() runtime.Object { return shallow(e.Object) }

// DeepCopyObject implements runtime.Object.
func (e *encoded) DeepCopyObject() runtime.Object { return e.Object.DeepCopyObject() }
