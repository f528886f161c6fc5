package plan

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

// Valid finds what an API would refuse of an input, whatever machine is to run it: wrong
// fields and names, and two objects of one name. Of kinds that are not here only the name is
// looked at. The error joins all, each with its place.
func Valid(input []manifest.Object) error {
	p := &planner{kinds: kind.Cluster{DualStack: true}.Kinds()}
	var err error
	if p.scheme, err = kind.NewVersionedScheme(p.kinds.All()); err != nil {
		return err
	}
	first := map[string]manifest.Object{}
	for _, in := range input {
		it := &item{in: in, kind: p.kinds.ByGVK(in.GroupVersionKind()), origin: nameOf(in.GetKind(), in.GetName(), in.GetGenerateName())}
		if it.kind == nil || it.kind.Elsewhere {
			p.strange(it)
		} else if it.obj, err = p.strictly(in); err != nil {
			it.undecodable(err)
		} else {
			if it.kind.Namespaced && it.obj.GetNamespace() == "" {
				it.obj.SetNamespace("default") // it is the user's who creates it
			}
			p.check(it)
		}
		if key := nameKey(in); in.GetName() == "" || first[key].Unstructured == nil {
			first[key] = in
		} else {
			it.refuse("metadata.name", "the name is taken: %s has the same", first[key].At("metadata.name"))
		}
		p.errs = append(p.errs, it.errs...)
	}
	return errors.Join(p.errs...)
}

// nameKey is the same for objects that cannot be there at the same time.
func nameKey(in manifest.Object) string {
	gk := schema.GroupKind{Group: in.GroupVersionKind().Group, Kind: in.GetKind()}
	return fmt.Sprint(gk, " ", in.GetNamespace(), "/", in.GetName())
}

// strange checks what is common to all kinds.
func (p *planner) strange(it *item) {
	if wrong := misnamed(p.served(), it.in.GroupVersionKind()); wrong != "" {
		it.refuse("kind", "%s", wrong)
		return
	}
	name, prefix := it.in.GetName(), false
	if name == "" {
		name, prefix = it.in.GetGenerateName(), true
	}
	for _, why := range validation.NameIsDNSSubdomain(name, prefix) {
		it.refuse("metadata.name", "Invalid value: %q: %s", name, why)
	}
}
