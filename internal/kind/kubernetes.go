package kind

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

// pointer is the pointer to an object, listPointer to a list of them.
type (
	pointer[T any] interface {
		*T
		Object
	}
	listPointer[L any] interface {
		*L
		runtime.Object
	}
)

// kubernetes returns the row of a resource whose rules are Kubernetes' own code
// (docs/adr/0013). T and L are the types of the stored version; write and status are the
// strategies of k8s.io/kubernetes/pkg/registry, status nil where there is no such
// subresource. Whether the resource is in namespaces, write knows.
func kubernetes[T, L any, P pointer[T], PL listPointer[L]](names Names, write, status upstream.Strategy) *Kind {
	return kubernetesKind(names, Types{
		New: func() Object { return P(new(T)) }, NewList: func() runtime.Object { return PL(new(L)) },
	}, write, status)
}

// kubernetesKind is what of kubernetes is the same for all types: the compiler makes a
// generic function once for each.
func kubernetesKind(names Names, types Types, write, status upstream.Strategy) *Kind {
	rules := upstream.Of(names.GVK, names.Plural(), "", write)
	names.Namespaced = rules.Namespaced()
	types.Default = func(obj Object) { upstream.Default(obj) }
	k := &Kind{
		Names: names,
		Types: types,
		Create: Create{
			Prepare:     func(obj Object) { rules.PrepareNew(obj) },
			Validate:    func(obj Object) field.ErrorList { return rules.ValidateNew(obj) },
			ValidateFor: func(req *Request, obj Object) field.ErrorList { return rules.For(req).ValidateNew(obj) },
			Declared:    func(obj Object, errs field.ErrorList) field.ErrorList { return rules.Declared(obj, nil, errs) },
		},
		Update:       kubernetesUpdate(rules),
		Canonicalize: func(obj Object) { rules.Canonicalize(obj) },
		Rare:         true,
	}
	k.Update.MayCreate, k.Update.Conditional = rules.MayCreate(), rules.Conditional()
	k.Warn = func(obj, old Object) []string {
		if old != nil {
			return rules.Warn(obj, old)
		}
		warnings := rules.WarnOfNew(obj)
		if k.NoEffect != "" {
			warnings = append(warnings, fmt.Sprintf("%s has no effect here: %s", k.GVK.Kind, k.NoEffect))
		}
		return warnings
	}
	if status != nil {
		update := kubernetesUpdate(upstream.Of(names.GVK, names.Plural(), "status", status))
		k.Status = &update
	}
	return k
}

func kubernetesUpdate(rules *upstream.Rules) Update {
	return Update{
		Prepare:     func(obj, old Object) { rules.Prepare(obj, old) },
		Validate:    func(obj, old Object) field.ErrorList { return rules.Validate(obj, old) },
		ValidateFor: func(req *Request, obj, old Object) field.ErrorList { return rules.For(req).Validate(obj, old) },
		Declared:    func(obj, old Object, errs field.ErrorList) field.ErrorList { return rules.Declared(obj, old, errs) },
		ResetFields: rules.ResetFields,
	}
}

// withoutEffect makes the row one of a kind that is kept only: why is what the warning
// says that answers a creation.
func (k *Kind) withoutEffect(why string) *Kind {
	k.NoEffect = why
	return k
}

// keeps makes updates keep an annotation in which a controller keeps something.
func (k *Kind) keeps(annotation string) *Kind {
	for _, update := range []*Update{&k.Update, k.Status} {
		prepare := update.Prepare
		update.Prepare = func(obj, old Object) {
			prepare(obj, old)
			keepAnnotation(obj, old, annotation)
		}
	}
	return k
}

// answersObject makes a DELETE answer with the object as it was.
func (k *Kind) answersObject() *Kind {
	k.Deletion.ReturnsObject = true
	return k
}

// converted makes out, of another version of the same kind, what in is.
func converted[In, Out runtime.Object](in In, out Out) {
	if err := upstream.Convert(in, out); err != nil {
		panic(fmt.Sprintf("kind: convert %T: %v", in, err)) // any object has a form in both
	}
}
