package kind

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateMeta checks the metadata of a new object.
func validateMeta(meta *metav1.ObjectMeta, namespaced bool, name apivalidation.ValidateNameFunc) field.ErrorList {
	path := field.NewPath("metadata")
	errs := apivalidation.ValidateObjectMeta(meta, namespaced, name, path)
	return append(errs, validateFinalizerNames(meta.Finalizers, path.Child("finalizers"))...)
}

// validateMetaUpdate checks how metadata was changed.
func validateMetaUpdate(meta, old *metav1.ObjectMeta) field.ErrorList {
	path := field.NewPath("metadata")
	errs := apivalidation.ValidateObjectMetaUpdate(meta, old, path)
	return append(errs, validateFinalizerNames(meta.Finalizers, path.Child("finalizers"))...)
}

// The finalizers that may go without a domain in front.
const finalizerKubernetes = "kubernetes"

func validateFinalizerNames(names []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range names {
		errs = append(errs, validateFinalizerDomain(name, path.Index(i))...)
	}
	return errs
}

// validateFinalizerDomain insists on a domain, except in Kubernetes' own names.
func validateFinalizerDomain(name string, path *field.Path) field.ErrorList {
	switch name {
	case finalizerKubernetes, metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
		return nil
	}
	if strings.Contains(name, "/") {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")}
}

// nonnegative checks a number that may be left out.
func nonnegative[T int32 | int64](value *T, path *field.Path) field.ErrorList {
	if value == nil {
		return nil
	}
	return apivalidation.ValidateNonnegativeField(int64(*value), path)
}

// immutable checks that a field is as it was.
func immutable(value, old any, path *field.Path) field.ErrorList {
	return apivalidation.ValidateImmutableField(value, old, path)
}

// countGeneration advances metadata.generation when the spec has changed.
func countGeneration(meta, old *metav1.ObjectMeta, spec, oldSpec any) {
	if !equality.Semantic.DeepEqual(spec, oldSpec) {
		meta.Generation = old.Generation + 1
	}
}

// sortedKeys returns the keys of m in order, so that errors come in the same
// order each time.
func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
