package kind

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const enforceMountableSecrets = "kubernetes.io/enforce-mountable-secrets"

// ServiceAccount is the row of v1 serviceaccounts.
func ServiceAccount() *Kind {
	return &Kind{
		Names: Names{
			Resource:   ServiceAccounts,
			Singular:   "serviceaccount",
			ShortNames: []string{"sa"},
			Namespaced: true,
			GVK:        corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		},
		Types: Types{
			New:     func() Object { return &corev1.ServiceAccount{} },
			NewList: func() runtime.Object { return &corev1.ServiceAccountList{} },
		},
		Create: Create{Prepare: changes(keepSecretNames), Validate: checks(validateServiceAccount)},
		Update: Update{
			Prepare:  updates(func(sa, _ *corev1.ServiceAccount) { keepSecretNames(sa) }),
			Validate: checksUpdate(validateServiceAccountUpdate),
		},
		Subresources: []Subresource{Token},
		Warn:         warns(warnServiceAccount),
		Table: Printer{
			Columns: []metav1.TableColumnDefinition{nameColumn(), ageColumn()},
			Cells: prints(func(sa *corev1.ServiceAccount, now time.Time) []any {
				return []any{sa.Name, age(sa.CreationTimestamp, now)}
			}),
		},
		Deletion: Deletion{ReturnsObject: true},
	}
}

// keepSecretNames reduces the references to secrets to their names: they
// cannot lead out of the namespace.
func keepSecretNames(sa *corev1.ServiceAccount) {
	for i, ref := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: ref.Name}
	}
}

func validateServiceAccount(sa *corev1.ServiceAccount) field.ErrorList {
	return validateMeta(&sa.ObjectMeta, true, apivalidation.ValidateServiceAccountName)
}

func validateServiceAccountUpdate(sa, old *corev1.ServiceAccount) field.ErrorList {
	return append(validateMetaUpdate(&sa.ObjectMeta, &old.ObjectMeta), validateServiceAccount(sa)...)
}

func warnServiceAccount(sa, old *corev1.ServiceAccount) []string {
	if _, asked := sa.Annotations[enforceMountableSecrets]; !asked {
		return nil
	}
	if old != nil {
		if _, before := old.Annotations[enforceMountableSecrets]; before {
			return nil
		}
	}
	return []string{"metadata.annotations[" + enforceMountableSecrets + "]: deprecated in v1.32+; " +
		"prefer separate namespaces to isolate access to mounted secrets"}
}
