package kind

import (
	"maps"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// ConfigMap is the row of v1 configmaps.
func ConfigMap() *Kind {
	return &Kind{
		Names: Names{
			Resource:   ConfigMaps,
			Singular:   "configmap",
			ShortNames: []string{"cm"},
			Namespaced: true,
			GVK:        corev1.SchemeGroupVersion.WithKind("ConfigMap"),
		},
		Types: Types{
			New:     func() Object { return &corev1.ConfigMap{} },
			NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
			Default: changes(func(cm *corev1.ConfigMap) {
				if cm.Data == nil {
					cm.Data = map[string]string{}
				}
			}),
		},
		Create: Create{Validate: checks(validateConfigMap)},
		Update: Update{Validate: checksUpdate(validateConfigMapUpdate)},
		Table: Printer{
			Columns: []metav1.TableColumnDefinition{
				nameColumn(),
				column("Data", "string", corev1.ConfigMap{}.SwaggerDoc()["data"]),
				ageColumn(),
			},
			Cells: prints(func(cm *corev1.ConfigMap, now time.Time) []any {
				return []any{cm.Name, int64(len(cm.Data) + len(cm.BinaryData)), age(cm.CreationTimestamp, now)}
			}),
		},
	}
}

func validateConfigMap(cm *corev1.ConfigMap) field.ErrorList {
	errs := validateMeta(&cm.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	total := 0
	for _, key := range sortedKeys(cm.Data) {
		path := field.NewPath("data").Key(key)
		errs = append(errs, validateDataKey(key, path)...)
		if _, twice := cm.BinaryData[key]; twice {
			errs = append(errs, field.Invalid(path, key, "duplicate of key present in binaryData"))
		}
		total += len(cm.Data[key])
	}
	for _, key := range sortedKeys(cm.BinaryData) {
		errs = append(errs, validateDataKey(key, field.NewPath("binaryData").Key(key))...)
		total += len(cm.BinaryData[key])
	}
	if total > corev1.MaxSecretSize {
		// The path that stands for the whole object.
		errs = append(errs, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
	return errs
}

// validateDataKey checks a key of a ConfigMap or Secret.
func validateDataKey(key string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path, key, msg))
	}
	return errs
}

func validateConfigMapUpdate(cm, old *corev1.ConfigMap) field.ErrorList {
	errs := validateMetaUpdate(&cm.ObjectMeta, &old.ObjectMeta)
	if ptr.Deref(old.Immutable, false) {
		errs = append(errs, validateImmutableFlag(cm.Immutable)...)
		if !maps.Equal(cm.Data, old.Data) {
			errs = append(errs, forbidChange("data"))
		}
		if !sameBytes(cm.BinaryData, old.BinaryData) {
			errs = append(errs, forbidChange("binaryData"))
		}
	}
	return append(errs, validateConfigMap(cm)...)
}

// validateImmutableFlag checks that what was immutable stays so.
func validateImmutableFlag(flag *bool) field.ErrorList {
	if ptr.Deref(flag, false) {
		return nil
	}
	return field.ErrorList{forbidChange("immutable")}
}

func forbidChange(name string) *field.Error {
	return field.Forbidden(field.NewPath(name), "field is immutable when `immutable` is set")
}

func sameBytes(a, b map[string][]byte) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}
