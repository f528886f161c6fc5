package plan

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

// check asks the row of the kind whether the object can be created, as the API will.
func (p *planner) check(it *item) {
	obj := it.obj.DeepCopyObject().(kind.Object)
	p.scheme.Default(obj)
	seen := map[string]bool{} // what the CronJob was refused for already
	for _, err := range it.errs {
		seen[err.Error()] = true
	}
	for _, err := range p.invalid(it.kind, obj) {
		path := strings.TrimPrefix(it.path+"."+err.Field, ".")
		if it.path != "" && !strings.HasPrefix(err.Field, "spec.") {
			path = err.Field
		}
		before, text := len(it.errs), err.ErrorBody()
		if value, ok := err.BadValue.(string); ok && err.Type == field.ErrorTypeInvalid && manifest.Unfilled(value) != "" {
			text = fmt.Sprintf("%q: %s", value, manifest.Unfilled(value))
		}
		it.refuse(path, "%s", text)
		if said := it.errs[before].Error(); seen[said] { // as of two labels with the same value
			it.errs = it.errs[:before]
		} else {
			seen[said] = true
		}
	}
}

// invalid returns what the row of a kind says against a new object that has its
// defaults.
func (p *planner) invalid(k *kind.Kind, obj kind.Object) field.ErrorList {
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(obj.GetGenerateName() + "00000")
	}
	obj.SetUID("00000000-0000-0000-0000-000000000000")
	if k.Create.Prepare != nil {
		k.Create.Prepare(obj)
	}
	return k.Create.Check(obj)
}
