package change

import (
	"reflect"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What may be done to an Outer does not reach the object, whatever that is made of.
func TestOuter(t *testing.T) {
	t.Parallel()
	for name, obj := range map[string]Object{
		"a struct": &batchv1.Job{
			TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
			ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "3"},
		},
		"a map": &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "sampan.dev/v1", "kind": "Fleet",
			"metadata": map[string]any{"name": "a", "resourceVersion": "3"},
			"spec":     map[string]any{"size": int64(3)},
		}},
		"a map without metadata": &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Fleet"}},
	} {
		before := obj.DeepCopyObject()
		outer := Outer(obj)
		if !reflect.DeepEqual(outer, obj) {
			t.Errorf("%s: the copy is %+v", name, outer)
		}
		outer.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		outer.SetResourceVersion("4")
		if !reflect.DeepEqual(obj, before) {
			t.Errorf("%s: was changed to %+v", name, obj)
		}
		if outer.GetResourceVersion() != "4" {
			t.Errorf("%s: the copy was not changed", name)
		}
	}
}
