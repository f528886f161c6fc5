package kind

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// templateOf returns the pod template of a Job's spec, nil if there is none.
func templateOf(spec *batchv1.JobSpec) *corev1.PodTemplateSpec {
	if spec == nil {
		return nil
	}
	return &spec.Template
}

// validateTemplate checks a pod template; old is nil for a new one.
func validateTemplate(template, old *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	opts := podspec.Options{}
	if old != nil {
		opts.Old, opts.OldMeta = &old.Spec, &old.ObjectMeta
	}
	return podspec.ValidateTemplate(template, path, opts)
}

// warnPodName warns of a name that pods cannot have as their hostname.
func warnPodName(name string) []string {
	msgs := validation.IsDNS1123Label(name)
	if len(msgs) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "+
		"a DNS label is recommended: %v", msgs)}
}
