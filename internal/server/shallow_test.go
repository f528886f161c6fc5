package server

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sampan-batch/sampan/internal/change"
)

// What the library does to what it is given of a stored object that is a map, as
// custom resources are, does not reach the stored one; and it still says what it is.
func TestShallowOfAMap(t *testing.T) {
	t.Parallel()
	stored := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "sampan.dev/v1", "kind": "Fleet", "metadata": map[string]any{"name": "a", "resourceVersion": "3"},
	}}
	before := stored.DeepCopyObject()
	list := &unstructured.UnstructuredList{}
	items, err := newItems(list)
	if err != nil {
		t.Fatal(err)
	}
	items.add(stored)
	alone, shared := &encodingSet{}, &encodingSet{}
	shared.watchers.Add(2)
	for name, given := range map[string]change.Object{
		"an answer":       shallow(stored),
		"an item":         &list.Items[0],
		"to one watcher":  alone.object(stored).(change.Object),
		"to two watchers": shared.object(stored).(*encoded).GetObject().(change.Object),
	} {
		if !reflect.DeepEqual(given, stored) {
			t.Errorf("%s: %+v", name, given)
		}
		given.GetObjectKind().SetGroupVersionKind(stored.GroupVersionKind().GroupVersion().WithKind("Other"))
		given.SetResourceVersion("4")
		if !reflect.DeepEqual(stored, before) {
			t.Fatalf("%s: the stored object became %+v", name, stored)
		}
	}
}
