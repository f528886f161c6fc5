package podspec

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) tolerations(path *field.Path, list []corev1.Toleration) {
	for i, t := range list {
		at := path.Index(i)
		if t.Key != "" {
			c.add(metavalidation.ValidateLabelName(t.Key, at.Child("key"))...)
		}
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			c.invalid(at.Child("operator"), t.Operator,
				"operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			c.invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
		}
		c.tolerationOperator(at, t)
		if t.Effect != "" {
			oneOf(c, at.Child("effect"), t.Effect,
				corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
		}
	}
}

func (c *checker) tolerationOperator(path *field.Path, t corev1.Toleration) {
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			c.invalid(path.Child("operator"), t.Value, strings.Join(msgs, ";"))
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			c.invalid(path.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'")
		}
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		// Behind the alpha gate TaintTolerationComparisonOperators.
		c.add(field.NotSupported(path.Child("operator"), t.Operator, []corev1.TolerationOperator{
			corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt,
		}))
	default:
		oneOf(c, path.Child("operator"), t.Operator, corev1.TolerationOpEqual, corev1.TolerationOpExists)
	}
}

// onlyAddedTolerations lets an update add tolerations and change how long they
// last.
func (c *checker) onlyAddedTolerations(path *field.Path, old []corev1.Toleration) {
	for _, o := range old {
		if !hasToleration(c.spec.Tolerations, o) {
			c.forbidden(path, "existing toleration can not be modified except its tolerationSeconds")
			return
		}
	}
	c.tolerations(path, c.spec.Tolerations)
}

func hasToleration(list []corev1.Toleration, want corev1.Toleration) bool {
	for _, t := range list {
		want.TolerationSeconds = t.TolerationSeconds
		if equality.Semantic.DeepEqual(t, want) {
			return true
		}
	}
	return false
}

// annotatedTolerations checks tolerations that are written in an annotation,
// as they were before they were a field.
func (c *checker) annotatedTolerations(path *field.Path, annotations map[string]string) {
	const key = corev1.TolerationsAnnotationKey
	if annotations[key] == "" {
		return
	}
	var list []corev1.Toleration
	if err := json.Unmarshal([]byte(annotations[key]), &list); err != nil {
		c.invalid(path, key, err.Error())
		return
	}
	c.tolerations(path.Child(key), list)
}
