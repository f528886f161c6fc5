package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) topologySpread(path *field.Path) {
	list := c.spec.TopologySpreadConstraints
	for i := range list {
		t, at := &list[i], path.Index(i)
		c.positive(at.Child("maxSkew"), t.MaxSkew)
		if t.TopologyKey == "" {
			c.required(at.Child("topologyKey"), "can not be empty")
		}
		oneOf(c, at.Child("whenUnsatisfiable"), t.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
		for _, other := range list[i+1:] {
			if t.TopologyKey == other.TopologyKey && t.WhenUnsatisfiable == other.WhenUnsatisfiable {
				c.add(field.Duplicate(at.Child("{topologyKey, whenUnsatisfiable}"),
					fmt.Sprintf("{%v, %v}", t.TopologyKey, t.WhenUnsatisfiable)))
				break
			}
		}
		if t.MinDomains != nil {
			c.positive(at.Child("minDomains"), *t.MinDomains)
			if t.WhenUnsatisfiable != corev1.DoNotSchedule {
				c.invalid(at.Child("minDomains"), *t.MinDomains, fmt.Sprintf(
					"can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, t.WhenUnsatisfiable))
			}
		}
		c.nodeInclusion(at.Child("nodeAffinityPolicy"), t.NodeAffinityPolicy)
		c.nodeInclusion(at.Child("nodeTaintsPolicy"), t.NodeTaintsPolicy)
		c.matchLabelKeys(at, t.MatchLabelKeys, nil, t.LabelSelector, ruleTopologyMatchKeys)
		c.addRule(ruleTopologySelector, metavalidation.ValidateLabelSelector(t.LabelSelector,
			metavalidation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	}
}

func (c *checker) positive(path *field.Path, value int32) {
	if value <= 0 {
		c.invalid(path, int64(value), "must be greater than zero")
	}
}

func (c *checker) nodeInclusion(path *field.Path, policy *corev1.NodeInclusionPolicy) {
	if policy != nil {
		oneOf(c, path, *policy, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
	}
}
