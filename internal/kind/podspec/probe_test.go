package podspec

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Signals can only be in objects from before their gate was switched off;
// those are still checked.
func TestStopSignal(t *testing.T) {
	t.Parallel()
	const ctr = "containers: [{name: c, image: a, lifecycle: {stopSignal: "
	for _, test := range []wrong{
		{"linux", "os: {name: linux}\n" + ctr + "SIGRTMIN+3}}]", nil},
		{"windows", "os: {name: windows}\n" + ctr + "SIGUSR1}}]", []string{
			`FieldValueNotSupported template.spec.containers[0].lifecycle.stopSignal: Unsupported value: "SIGUSR1": supported values: "SIGKILL", "SIGTERM"`,
		}},
		{"no system", ctr + "SIGTERM}}]", []string{
			"FieldValueForbidden template.spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tpl := &corev1.PodTemplateSpec{Spec: podOf(t, test.spec).Spec}
			compare(t, causes(ValidateTemplate(tpl, field.NewPath("template"), Options{})), test.want)
		})
	}
	signals := linuxSignals()
	if len(signals) != 65 || len(slices.Compact(slices.Clone(signals))) != len(signals) {
		t.Errorf("%d signals: %s", len(signals), signals)
	}
}
