package kind

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxAdvised is how many fields an advice names.
const maxAdvised = 8

// adviseReplacing names the fields by which an update changes what must not change, and the
// way out. The error itself is Kubernetes', which shows a whole template and not what is
// different in it.
func adviseReplacing(obj, old Object, errs field.ErrorList) []string {
	after, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	before, errOld := runtime.DefaultUnstructuredConverter.ToUnstructured(old)
	if err != nil || errOld != nil {
		return nil
	}
	var changed []string
	for _, e := range errs {
		if e.Detail == apivalidation.FieldImmutableErrorMsg && strings.HasPrefix(e.Field, "spec.") {
			path := strings.Split(e.Field, ".")
			changed = differences(changed, e.Field, below(after, path), below(before, path))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	named := strings.Join(changed[:min(len(changed), maxAdvised)], ", ")
	if more := len(changed) - maxAdvised; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return []string{named + " cannot be changed: to delete the Job with its pods and create it anew, use kubectl replace --force -f FILE"}
}

// below returns what is at a path in an object; nil if nothing is.
func below(in any, path []string) any {
	for _, name := range path {
		fields, _ := in.(map[string]any)
		in = fields[name]
	}
	return in
}

// differences adds the paths of the smallest parts by which two values differ.
func differences(found []string, path string, a, b any) []string {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			break
		}
		names := maps.Clone(x)
		maps.Copy(names, y)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			found = differences(found, path+step(name), x[name], y[name])
		}
		return found
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			break
		}
		for i := range x {
			found = differences(found, fmt.Sprintf("%s[%d]", path, i), x[i], y[i])
		}
		return found
	}
	if reflect.DeepEqual(a, b) {
		return found
	}
	return append(found, path)
}

// step is how a name is written in a path.
func step(name string) string {
	if strings.ContainsAny(name, "./") {
		return "[" + name + "]"
	}
	return "." + name
}
