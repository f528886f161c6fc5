package podspec

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func templateOf(t *testing.T, text string) *corev1.PodTemplateSpec {
	t.Helper()
	tpl := &corev1.PodTemplateSpec{}
	if err := yaml.UnmarshalStrict([]byte(text), tpl); err != nil {
		t.Fatal(err)
	}
	DefaultTemplate(tpl)
	return tpl
}

func TestValidateTemplate(t *testing.T) {
	t.Parallel()
	const spec = "spec: {containers: [{name: c, image: a}]}\n"
	for _, test := range []wrong{
		{"nothing wrong", spec, nil},
		{"nothing at all", "{}", []string{
			"FieldValueRequired spec.template.spec.containers: Required value",
		}},
		{"label", `metadata: {labels: {app: "a b"}}
` + spec, []string{
			`FieldValueInvalid spec.template.labels: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
		}},
		{"annotation", `metadata: {annotations: {"a b": c}}
` + spec, []string{
			`FieldValueInvalid spec.template.annotations: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		}},
		{"ephemeral containers", "spec: {containers: [{name: c, image: a}], ephemeralContainers: [{name: e, image: a}]}", []string{
			"FieldValueForbidden spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
		}},
		{"a template may have spaces around an image", `spec: {containers: [{name: c, image: " a"}]}`, nil},
		{"seccomp in annotation and field", `
metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined, container.seccomp.security.alpha.kubernetes.io/c: localhost/a}}
spec:
  securityContext: {seccompProfile: {type: RuntimeDefault}}
  containers: [{name: c, image: a, securityContext: {seccompProfile: {type: Localhost, localhostProfile: b}}}]
`, []string{
			"FieldValueForbidden spec.template.spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
			"FieldValueForbidden spec.template.spec.containers[0].securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in annotation and field must match",
		}},
		{"AppArmor in annotation and field", `
metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: unconfined, container.apparmor.security.beta.kubernetes.io/d: nice}}
spec:
  securityContext: {appArmorProfile: {type: RuntimeDefault}}
  containers: [{name: c, image: a}]
`, []string{
			`FieldValueInvalid spec.template.annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: "d": container not found`,
			`FieldValueInvalid spec.template.annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: "nice": invalid AppArmor profile name: "nice"`,
			"FieldValueForbidden spec.template.spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match",
		}},
		{"tolerations in an annotation", `
metadata: {annotations: {scheduler.alpha.kubernetes.io/tolerations: "[{\"key\":\"a\",\"operator\":\"Equals\"}]"}}
` + spec, []string{
			`FieldValueNotSupported spec.template.annotations.scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value: "Equals": supported values: "Equal", "Exists"`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tpl := templateOf(t, test.spec)
			compare(t, causes(ValidateTemplate(tpl, field.NewPath("spec", "template"), Options{})), test.want)
		})
	}
}
