package kind

import (
	"crypto/tls"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// Secret is the row of v1 secrets.
func Secret() *Kind {
	return &Kind{
		Names: Names{
			Resource:   Secrets,
			Singular:   "secret",
			Namespaced: true,
			GVK:        corev1.SchemeGroupVersion.WithKind("Secret"),
		},
		Types: Types{
			New:     func() Object { return &corev1.Secret{} },
			NewList: func() runtime.Object { return &corev1.SecretList{} },
			Default: changes(defaultSecret),
		},
		Create: Create{Prepare: changes(mergeStringData), Validate: checks(validateSecret)},
		Update: Update{Prepare: updates(prepareSecretUpdate), Validate: checksUpdate(validateSecretUpdate)},
		Warn:   warns(func(s, _ *corev1.Secret) []string { return warnSecret(s) }),
		Select: Select{Fields: selects(func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} })},
		Table: Printer{
			Columns: []metav1.TableColumnDefinition{
				nameColumn(),
				column("Type", "string", corev1.Secret{}.SwaggerDoc()["type"]),
				column("Data", "string", corev1.Secret{}.SwaggerDoc()["data"]),
				ageColumn(),
			},
			Cells: prints(func(s *corev1.Secret, now time.Time) []any {
				return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp, now)}
			}),
		},
		Storage: Storage{Erase: true},
	}
}

func defaultSecret(s *corev1.Secret) {
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	mergeStringData(s)
}

// mergeStringData moves stringData, which can only be written, into data.
func mergeStringData(s *corev1.Secret) {
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

func prepareSecretUpdate(s, old *corev1.Secret) {
	if s.Type == "" {
		s.Type = old.Type
	}
	mergeStringData(s)
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	errs := validateMeta(&s.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	data := field.NewPath("data")
	total := 0
	for _, key := range sortedKeys(s.Data) {
		errs = append(errs, validateDataKey(key, data.Key(key))...)
		total += len(s.Data[key])
	}
	if total > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", corev1.MaxSecretSize))
	}
	return append(errs, validateSecretType(s, data)...)
}

// validateSecretType checks what the type of a Secret demands of its content.
func validateSecretType(s *corev1.Secret, data *field.Path) field.ErrorList {
	has := func(key string) bool { _, ok := s.Data[key]; return ok }
	required := func(key string) *field.Error { return field.Required(data.Key(key), "") }
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		if s.Annotations[corev1.ServiceAccountNameKey] == "" {
			path := field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey)
			return field.ErrorList{field.Required(path, "")}
		}
	case corev1.SecretTypeDockercfg:
		return validateDockerConfig(s, corev1.DockerConfigKey, data)
	case corev1.SecretTypeDockerConfigJson:
		return validateDockerConfig(s, corev1.DockerConfigJsonKey, data)
	case corev1.SecretTypeBasicAuth:
		if !has(corev1.BasicAuthUsernameKey) && !has(corev1.BasicAuthPasswordKey) {
			return field.ErrorList{required(corev1.BasicAuthUsernameKey), required(corev1.BasicAuthPasswordKey)}
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			return field.ErrorList{required(corev1.SSHAuthPrivateKey)}
		}
	case corev1.SecretTypeTLS:
		var errs field.ErrorList
		for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
			if !has(key) {
				errs = append(errs, required(key))
			}
		}
		return errs
	}
	return nil
}

func validateDockerConfig(s *corev1.Secret, key string, data *field.Path) field.ErrorList {
	config, ok := s.Data[key]
	if !ok {
		return field.ErrorList{field.Required(data.Key(key), "")}
	}
	if err := json.Unmarshal(config, &map[string]any{}); err != nil {
		return field.ErrorList{field.Invalid(data.Key(key), "<secret contents redacted>", err.Error())}
	}
	return nil
}

func validateSecretUpdate(s, old *corev1.Secret) field.ErrorList {
	errs := validateMetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, immutable(s.Type, old.Type, field.NewPath("type"))...)
	if ptr.Deref(old.Immutable, false) {
		errs = append(errs, validateImmutableFlag(s.Immutable)...)
		if !sameBytes(s.Data, old.Data) {
			errs = append(errs, forbidChange("data"))
		}
	}
	return append(errs, validateSecret(s)...)
}

// warnSecret tells when the key of a TLS secret does not belong to its
// certificate.
func warnSecret(s *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}
