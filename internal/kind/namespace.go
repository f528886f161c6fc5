package kind

import (
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Namespace is the row of v1 namespaces. A namespace is held by the finalizer
// "kubernetes" in its spec until everything in it is gone.
func Namespace() *Kind {
	return &Kind{
		Names: Names{
			Resource:   Namespaces,
			Singular:   "namespace",
			ShortNames: []string{"ns"},
			GVK:        corev1.SchemeGroupVersion.WithKind("Namespace"),
		},
		Types: Types{
			New:     func() Object { return &corev1.Namespace{} },
			NewList: func() runtime.Object { return &corev1.NamespaceList{} },
			Default: changes(defaultNamespace),
		},
		Create: Create{Prepare: changes(prepareNamespace), Validate: checks(func(ns *corev1.Namespace) field.ErrorList {
			return append(validateNamespace(ns), validateSecurity(ns, nil)...)
		})},
		Update: Update{Prepare: updates(prepareNamespaceUpdate), Validate: checksUpdate(validateNamespaceUpdate)},
		Status: &Update{
			Prepare:  updates(func(ns, old *corev1.Namespace) { ns.Spec = old.Spec }),
			Validate: checksUpdate(validateNamespaceStatus),
		},
		Finalize: &Update{
			Prepare:  updates(func(ns, old *corev1.Namespace) { ns.Status = old.Status }),
			Validate: checksUpdate(validateNamespaceFinalize),
		},
		Select: Select{Fields: selects(func(ns *corev1.Namespace) fields.Set {
			return fields.Set{"status.phase": string(ns.Status.Phase)}
		})},
		Table: Printer{
			Columns: []metav1.TableColumnDefinition{
				nameColumn(),
				column("Status", "string", "The status of the namespace"),
				ageColumn(),
			},
			Cells: prints(func(ns *corev1.Namespace, now time.Time) []any {
				return []any{ns.Name, string(ns.Status.Phase), age(ns.CreationTimestamp, now)}
			}),
		},
		Deletion: Deletion{
			Refuse:   refuseNamespace,
			Begin:    changes(func(ns *corev1.Namespace) { ns.Status.Phase = corev1.NamespaceTerminating }),
			Held:     func(obj Object) bool { return len(obj.(*corev1.Namespace).Spec.Finalizers) > 0 },
			OneByOne: true,
		},
	}
}

// refuseNamespace keeps the namespaces that Kubernetes never deletes.
func refuseNamespace(obj Object) error {
	switch obj.GetName() {
	case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic:
		return errors.New("this namespace may not be deleted")
	}
	return nil
}

func defaultNamespace(ns *corev1.Namespace) {
	labelNamespace(ns)
	if ns.Status.Phase == "" {
		ns.Status.Phase = corev1.NamespaceActive
	}
}

// labelNamespace lets a namespace be selected by its name. With generateName
// the name is not known yet when a manifest is decoded; Prepare… calls again.
func labelNamespace(ns *corev1.Namespace) {
	if ns.Name == "" {
		return
	}
	if ns.Labels == nil {
		ns.Labels = make(map[string]string, 1)
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func prepareNamespace(ns *corev1.Namespace) {
	labelNamespace(ns)
	ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

func prepareNamespaceUpdate(ns, old *corev1.Namespace) {
	labelNamespace(ns)
	ns.Spec.Finalizers = old.Spec.Finalizers
	ns.Status = old.Status
}

func validateNamespace(ns *corev1.Namespace) field.ErrorList {
	errs := validateMeta(&ns.ObjectMeta, false, apivalidation.ValidateNamespaceName)
	for _, f := range ns.Spec.Finalizers {
		errs = append(errs, validateNamespaceFinalizer(f, field.NewPath("spec", "finalizers"))...)
	}
	return errs
}

func validateNamespaceUpdate(ns, old *corev1.Namespace) field.ErrorList {
	errs := append(validateNamespace(ns), validateMetaUpdate(&ns.ObjectMeta, &old.ObjectMeta)...)
	return append(errs, validateSecurity(ns, old)...)
}

func validateNamespaceStatus(ns, old *corev1.Namespace) field.ErrorList {
	errs := validateMetaUpdate(&ns.ObjectMeta, &old.ObjectMeta)
	path := field.NewPath("status", "Phase")
	switch deleted := !ns.DeletionTimestamp.IsZero(); {
	case !deleted && ns.Status.Phase != corev1.NamespaceActive:
		return append(errs, field.Invalid(path, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty"))
	case deleted && ns.Status.Phase != corev1.NamespaceTerminating:
		return append(errs, field.Invalid(path, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"))
	}
	return errs
}

func validateNamespaceFinalize(ns, old *corev1.Namespace) field.ErrorList {
	errs := validateMetaUpdate(&ns.ObjectMeta, &old.ObjectMeta)
	for i, f := range ns.Spec.Finalizers {
		errs = append(errs, validateNamespaceFinalizer(f, field.NewPath("spec", "finalizers").Index(i))...)
	}
	return errs
}

func validateNamespaceFinalizer(name corev1.FinalizerName, path *field.Path) field.ErrorList {
	errs := apivalidation.ValidateFinalizerName(string(name), path)
	return append(errs, validateFinalizerDomain(string(name), path)...)
}
