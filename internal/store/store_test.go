package store

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
)

// jsonCodec stores ConfigMaps, whatever the resource is called.
type jsonCodec struct{}

func (jsonCodec) Encode(obj change.Object) ([]byte, error) { return json.Marshal(obj) }

// Knows: resources that begin with x are those of a newer program.
func (jsonCodec) Knows(resource change.Resource) bool { return resource[0] != 'x' }

func (jsonCodec) Decode(_ change.Resource, data []byte) (change.Object, error) {
	obj := &corev1.ConfigMap{}
	return obj, json.Unmarshal(data, obj)
}

// indexData gives an object its data's keys as terms.
func indexData(_ change.Resource, obj change.Object) []string {
	var terms []string
	for k := range obj.(*corev1.ConfigMap).Data {
		terms = append(terms, k)
	}
	return terms
}

// erases is an Options.Erase of these resources.
func erases(resources ...change.Resource) func(change.Resource) bool {
	return func(r change.Resource) bool { return slices.Contains(resources, r) }
}

func key(resource change.Resource, name string) change.Key {
	return change.Key{Resource: resource, Namespace: "ns", Name: name}
}

// object returns a ConfigMap for k that holds value and names its owners.
func object(k change.Key, value string, owners ...types.UID) *corev1.ConfigMap {
	obj := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name},
		Data:       map[string]string{"value": value},
	}
	for _, uid := range owners {
		obj.OwnerReferences = append(obj.OwnerReferences, metav1.OwnerReference{UID: uid})
	}
	return obj
}

func revOf(t *testing.T, obj change.Object) uint64 {
	t.Helper()
	rev, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func mustOpen(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "store.db")
	}
	o.Codec, o.Index, o.Strict = jsonCodec{}, indexData, true
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustApply(t *testing.T, s *Store, set change.Set) Result {
	t.Helper()
	res, err := s.Apply(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestApplyAndReopen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := mustOpen(t, Options{Path: path})
	a, b := key("pods", "a"), key("pods", "b")
	var set change.Set
	set.Create(a, object(a, "1"))
	set.Create(b, object(b, "1", "owner"))
	res := mustApply(t, s, set)
	if got := revOf(t, res.Objects[0]); got != res.Rev-1 {
		t.Errorf("first write at revision %d, set at %d", got, res.Rev)
	}
	set = change.Set{}
	set.Update(b, res.Rev, object(b, "2", "owner"))
	set.Delete(a, res.Rev-1)
	res = mustApply(t, s, set)

	_, err := s.Apply(context.Background(), set)
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Errorf("stale set: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{Path: path})
	v := s.View()
	if v.Rev() != res.Rev || v.Len("pods") != 1 {
		t.Errorf("reopened at %d with %d pods", v.Rev(), v.Len("pods"))
	}
	for k, obj := range v.Owned("owner") {
		if k != b || obj.(*corev1.ConfigMap).Data["value"] != "2" || revOf(t, obj) != res.Rev-1 {
			t.Errorf("owned: %v %v", k, obj)
		}
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// An object that is a map, as custom resources are, is written and compared without
// a change of it.
func TestEncodeLeavesAMap(t *testing.T) {
	t.Parallel()
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "sampan.dev/v1", "kind": "Fleet", "metadata": map[string]any{"namespace": "ns", "name": "a", "resourceVersion": "3"},
	}}
	before := obj.DeepCopy()
	it := &item{key: key("fleets.sampan.dev", "a"), rev: 3, obj: obj}
	_, v, err := it.encode(jsonCodec{})
	if err != nil || strings.Contains(string(v), "resourceVersion") {
		t.Errorf("%q, %v", v, err)
	}
	if !reflect.DeepEqual(obj, before) {
		t.Errorf("the stored object became %v", obj)
	}
}
