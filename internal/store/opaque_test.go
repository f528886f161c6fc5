package store

import (
	"bytes"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sampan-batch/sampan/internal/change"
)

// learner is a codec that comes to know the resource xq.
type learner struct {
	jsonCodec
	knows atomic.Bool
}

func (l *learner) Knows(resource change.Resource) bool { return l.knows.Load() || resource != "xq" }

// strangeStore is the file of a newer program: with three objects of xq, two pods and
// what the first of them owns.
func strangeStore(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	for _, name := range []string{"a", "b", "c"} {
		mustApply(t, s, createSet(key("xq", name), "v"+name, false))
		var set change.Set
		set.Create(key("pods", name), object(key("pods", name), "1", "owner"))
		mustApply(t, s, set)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func openLearning(t *testing.T, path string) (*Store, *learner) {
	t.Helper()
	codec := &learner{}
	s, err := Open(Options{Path: path, Codec: codec, Index: indexData, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, codec
}

// What becomes known while the store is open is there as if it had always been.
func TestAdopt(t *testing.T) {
	t.Parallel()
	path := strangeStore(t)
	s, codec := openLearning(t, path)
	watch := mustWatch(t, s, "", s.View().Rev())
	if n, err := s.Adopt(); err != nil || len(n) != 0 {
		t.Errorf("adopted %v, %v of what is not known", n, err)
	}
	codec.knows.Store(true)
	_, err := s.Apply(t.Context(), createSet(key("xq", "a"), "2", false))
	if err == nil || !strings.Contains(err.Error(), "xq/ns/a: there are objects of this resource that were not read") {
		t.Errorf("a write over what was not read: %v", err)
	}
	mustApply(t, s, createSet(key("pods", "d"), "1", false))
	rev := s.View().Rev()
	if n, err := s.Adopt(); err != nil || n["xq"] != 3 {
		t.Fatalf("adopted %v, %v", n, err)
	}
	if s.View().Rev() != rev || s.View().Len("xq") != 3 || len(s.Unknown()) != 0 {
		t.Errorf("%d objects at revision %d, unknown %v", s.View().Len("xq"), s.View().Rev(), s.Unknown())
	}
	for range s.View().Unread("") {
		t.Error("something is unread")
	}
	obj, ok := s.View().Get(key("xq", "b"))
	if !ok || valueOf(obj) != "vb" || obj.GetResourceVersion() != "3" {
		t.Fatalf("%v", obj)
	}
	var set change.Set
	set.Update(key("xq", "b"), 3, object(key("xq", "b"), "new"))
	mustApply(t, s, set)
	set = change.Set{}
	set.Delete(key("xq", "c"), 5)
	mustApply(t, s, set)
	events, _, err := watch.Next(t.Context())
	var told []string
	for _, ev := range events {
		told = append(told, ev.Key.String())
	}
	if got := strings.Join(told, " "); err != nil || got != "pods/ns/d xq/ns/b xq/ns/c" {
		t.Errorf("the watch tells of %s, %v", got, err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, codec2 := openLearning(t, path)
	codec2.knows.Store(true)
	if n, err := again.Adopt(); err != nil || n["xq"] != 2 {
		t.Errorf("adopted %v, %v", n, err)
	}
	if obj, ok := again.View().Get(key("xq", "b")); !ok || valueOf(obj) != "new" {
		t.Errorf("%v", obj)
	}
}

// Adopting takes its turn among commits, also among those that fail, and twice at a
// time is as good as once.
func TestAdoptUnderLoad(t *testing.T) {
	t.Parallel()
	s, codec := openLearning(t, strangeStore(t))
	codec.knows.Store(true)
	var all sync.WaitGroup
	var adopted atomic.Int32
	for w := range 4 {
		all.Go(func() {
			for i := range 20 {
				mustApply(t, s, createSet(key("pods", string(rune('e'+w))+string(rune('a'+i))), "1", i%3 == 0))
			}
		})
		all.Go(func() {
			n, err := s.Adopt()
			if err != nil {
				t.Error(err)
			}
			if s.View().Len("xq") != 3 {
				t.Error("Adopt has returned, and not all is there")
			}
			adopted.Add(int32(n["xq"]))
		})
	}
	all.Wait()
	if s.View().Len("xq") != 3 || s.View().Len("pods") != 83 || adopted.Load() < 3 {
		t.Errorf("%d objects, %d pods; %d adopted", s.View().Len("xq"), s.View().Len("pods"), adopted.Load())
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// An object that cannot be decoded stays as it is, and keeps nobody from the others.
func TestAdoptBrokenObject(t *testing.T) {
	t.Parallel()
	path := strangeStore(t)
	k := encodeKey(key("xq", "b"))
	s := mustOpen(t, Options{Path: path})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	value := encodeValue(k, []byte("{"), 3)
	reseal(t, path, k, value)
	s, codec := openLearning(t, path)
	codec.knows.Store(true)
	n, err := s.Adopt()
	if err == nil || !strings.Contains(err.Error(), "decode xq/ns/b") || n["xq"] != 2 {
		t.Errorf("adopted %v, %v", n, err)
	}
	if s.View().Len("xq") != 2 || s.Unknown()["xq"] != 1 {
		t.Errorf("%d objects, unknown %v", s.View().Len("xq"), s.Unknown())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(tx *bbolt.Tx) error {
		if !bytes.Equal(tx.Bucket(objectsBucket).Get(k), value) {
			t.Error("the broken object was changed")
		}
		return nil
	})
}

// reseal puts another value in the place of an object, as a program does that writes
// it so.
func reseal(t *testing.T, path string, k, value []byte) {
	t.Helper()
	edit(t, path, func(tx *bbolt.Tx) error {
		meta, objects := tx.Bucket(metaBucket), tx.Bucket(objectsBucket)
		sealed, err := decodeSeal(meta.Get(sealKey))
		if err != nil {
			return err
		}
		sealed.remove(k, objects.Get(k))
		sealed.add(k, value)
		sealed.tx = uint64(tx.ID())
		if err := objects.Put(k, value); err != nil {
			return err
		}
		return meta.Put(sealKey, sealed.encode())
	})
}
