package plan

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind"
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
		before := len(it.errs)
		it.refuse(path, "%s", err.ErrorBody())
		if seen[it.errs[before].Error()] {
			it.errs = it.errs[:before]
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
