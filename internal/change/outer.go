package change

import (
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Outer returns a copy of obj that may be given another type, and other scalars in its
// metadata (SetGroupVersionKind, SetResourceVersion), without a change of obj. All
// that is below these is shared, and must not be changed.
func Outer(obj Object) Object {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return outerMap(u)
	}
	original := reflect.ValueOf(obj).Elem()
	clone := reflect.New(original.Type())
	clone.Elem().Set(original)
	return clone.Interface().(Object)
}

// outerMap copies the two maps that hold what others hold in two structs.
func outerMap(u *unstructured.Unstructured) *unstructured.Unstructured {
	top := maps.Clone(u.Object)
	if meta, ok := top["metadata"].(map[string]any); ok {
		top["metadata"] = maps.Clone(meta)
	}
	return &unstructured.Unstructured{Object: top}
}
