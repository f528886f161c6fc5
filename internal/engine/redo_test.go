package engine

import (
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// TestRedo: whoever loses against another decides anew on what the other wrote, at once.
// A decision that loses again and again has read what it lost against before: it would
// be seen by more decisions than there are writers.
func TestRedo(t *testing.T) {
	t.Parallel()
	kinds := kind.Builtin()
	s, err := store.Open(store.Options{Path: filepath.Join(t.TempDir(), "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := &nodeClient{store: s, kinds: kinds}
	key := change.Key{Resource: "configmaps", Namespace: "ns", Name: "count"}
	var create change.Set
	create.Create(key, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "count"}, Data: map[string]string{"n": "0"}})
	if _, err := s.Apply(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 10
	var mu sync.Mutex
	decisions := 0
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				err := c.redo(t.Context(), func(view *store.View) (set change.Set, _ error) {
					mu.Lock()
					decisions++
					mu.Unlock()
					obj, _ := view.Get(key)
					next := obj.DeepCopyObject().(*corev1.ConfigMap)
					n, err := strconv.Atoi(next.Data["n"])
					next.Data["n"] = strconv.Itoa(n + 1)
					set.Update(key, change.RevOf(obj), next)
					return set, err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	obj, _ := s.View().Get(key)
	if got := obj.(*corev1.ConfigMap).Data["n"]; got != strconv.Itoa(writers*each) {
		t.Errorf("%s of %d writes are there", got, writers*each)
	}
	if most := writers * writers * each; decisions > most {
		t.Errorf("%d decisions for %d writes: at most %d can have lost", decisions, writers*each, most)
	}
}
