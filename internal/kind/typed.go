package kind

import (
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/change"
)

// Object is an API object; see change.Object.
type Object = change.Object

// The functions of a row are written for the row's own type; these adapters
// give them the form that Kind holds. A row is only ever handed objects of its
// own type, so that the assertions cannot fail.

func changes[T Object](f func(T)) func(Object) {
	return func(obj Object) { f(obj.(T)) }
}

func updates[T Object](f func(obj, old T)) func(obj, old Object) {
	return func(obj, old Object) { f(obj.(T), old.(T)) }
}

func checks[T Object](f func(T) field.ErrorList) func(Object) field.ErrorList {
	return func(obj Object) field.ErrorList { return f(obj.(T)) }
}

func checksUpdate[T Object](f func(obj, old T) field.ErrorList) func(obj, old Object) field.ErrorList {
	return func(obj, old Object) field.ErrorList { return f(obj.(T), old.(T)) }
}

// warns passes the zero T (a nil pointer) for the absent old object of a create.
func warns[T Object](f func(obj, old T) []string) func(obj, old Object) []string {
	return func(obj, old Object) []string {
		prev, _ := old.(T)
		return f(obj.(T), prev)
	}
}

func selects[T Object](f func(T) fields.Set) func(Object) fields.Set {
	return func(obj Object) fields.Set { return f(obj.(T)) }
}

func prints[T Object](f func(obj T, now time.Time) []any) func(Object, time.Time) []any {
	return func(obj Object, now time.Time) []any { return f(obj.(T), now) }
}
