package podspec

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	requiredTerms  = "requiredDuringSchedulingIgnoredDuringExecution"
	preferredTerms = "preferredDuringSchedulingIgnoredDuringExecution"
)

func (c *checker) affinity(path *field.Path) {
	a := c.spec.Affinity
	if a == nil {
		return
	}
	if a.NodeAffinity != nil {
		c.nodeAffinity(path.Child("nodeAffinity"), a.NodeAffinity)
	}
	if p := a.PodAffinity; p != nil {
		c.podTerms(path.Child("podAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution,
			p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		c.podTerms(path.Child("podAntiAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution,
			p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (c *checker) nodeAffinity(path *field.Path, a *corev1.NodeAffinity) {
	if sel := a.RequiredDuringSchedulingIgnoredDuringExecution; sel != nil {
		terms := path.Child(requiredTerms).Child("nodeSelectorTerms")
		if len(sel.NodeSelectorTerms) == 0 {
			c.required(terms, "must have at least one node selector term")
		}
		for i, term := range sel.NodeSelectorTerms {
			c.nodeTerm(terms.Index(i), term, true)
		}
	}
	for i, term := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		at := path.Child(preferredTerms).Index(i)
		c.weight(at.Child("weight"), term.Weight)
		// What no node can have is harmless in a mere preference.
		c.nodeTerm(at.Child("preference"), term.Preference, false)
	}
}

func (c *checker) weight(path *field.Path, weight int32) {
	if weight < 1 || weight > 100 {
		c.invalid(path, weight, "must be in the range 1-100")
	}
}

func (c *checker) nodeTerm(path *field.Path, term corev1.NodeSelectorTerm, values bool) {
	for i, req := range term.MatchExpressions {
		c.nodeRequirement(path.Child("matchExpressions").Index(i), req, values)
	}
	for i, req := range term.MatchFields {
		c.nodeFieldRequirement(path.Child("matchFields").Index(i), req)
	}
}

func (c *checker) nodeRequirement(path *field.Path, req corev1.NodeSelectorRequirement, values bool) {
	at := path.Child("values")
	switch req.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(req.Values) == 0 {
			c.required(at, "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(req.Values) > 0 {
			c.forbidden(at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(req.Values) != 1 {
			c.required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'")
		}
	default:
		c.invalid(path.Child("operator"), req.Operator, "not a valid selector operator")
	}
	c.add(metavalidation.ValidateLabelName(req.Key, path.Child("key"))...)
	if !values {
		return
	}
	for i, v := range req.Values {
		for _, msg := range validation.IsValidLabelValue(v) {
			c.addRule(ruleNodeAffinityValue, field.Invalid(at.Index(i), v, msg))
		}
	}
}

// nodeFieldRequirement: metadata.name is the only field.
func (c *checker) nodeFieldRequirement(path *field.Path, req corev1.NodeSelectorRequirement) {
	switch req.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(req.Values) != 1 {
			c.required(path.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
		}
	default:
		c.invalid(path.Child("operator"), req.Operator, "not a valid selector operator")
	}
	if req.Key != metav1.ObjectNameField {
		c.invalid(path.Child("key"), req.Key, "not a valid field selector key")
		return
	}
	for i, v := range req.Values {
		c.dnsSubdomain(path.Child("values").Index(i), v)
	}
}

func (c *checker) podTerms(path *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	for i := range required {
		c.podTerm(path.Child(requiredTerms).Index(i), &required[i])
	}
	for i := range preferred {
		at := path.Child(preferredTerms).Index(i)
		c.weight(at.Child("weight"), preferred[i].Weight)
		c.podTerm(at.Child("podAffinityTerm"), &preferred[i].PodAffinityTerm)
	}
}

func (c *checker) podTerm(path *field.Path, term *corev1.PodAffinityTerm) {
	c.labelSelector(path.Child("labelSelector"), term.LabelSelector, ruleAffinitySelectorValue)
	c.labelSelector(path.Child("namespaceSelector"), term.NamespaceSelector, ruleAffinitySelectorValue)
	for _, ns := range term.Namespaces {
		c.invalidEach(path.Child("namespace"), ns, apivalidation.ValidateNamespaceName(ns, false))
	}
	c.matchLabelKeys(path, term.MatchLabelKeys, term.MismatchLabelKeys, term.LabelSelector, always)
	if term.TopologyKey == "" {
		c.required(path.Child("topologyKey"), "can not be empty")
	}
	c.add(metavalidation.ValidateLabelName(term.TopologyKey, path.Child("topologyKey"))...)
}

// matchLabelKeys checks the keys whose values the pod's own labels give. By
// now the selector holds a requirement for each of them: see Prepare.
func (c *checker) matchLabelKeys(path *field.Path, match, mismatch []string, sel *metav1.LabelSelector, r rule) {
	c.labelKeys(path.Child("matchLabelKeys"), match, sel, r)
	c.labelKeys(path.Child("mismatchLabelKeys"), mismatch, sel, r)
	if sel != nil {
		index := map[string]int{}
		for i, key := range match {
			index[key] = i
		}
		seen := sets.KeySet(sel.MatchLabels)
		for _, req := range sel.MatchExpressions {
			if i, ok := index[req.Key]; ok && seen.Has(req.Key) {
				c.addRule(r, field.Invalid(path.Index(i), req.Key, "exists in both matchLabelKeys and labelSelector"))
			}
			seen.Insert(req.Key)
		}
	}
	both := sets.New(mismatch...)
	for i, key := range match {
		if both.Has(key) {
			c.addRule(r, field.Invalid(path.Child("matchLabelKeys").Index(i), key,
				"exists in both matchLabelKeys and mismatchLabelKeys"))
		}
	}
}

func (c *checker) labelKeys(path *field.Path, keys []string, sel *metav1.LabelSelector, r rule) {
	if len(keys) > 0 && sel == nil {
		c.addRule(r, field.Forbidden(path, "must not be specified when labelSelector is not set"))
		return
	}
	for i, key := range keys {
		c.addRule(r, metavalidation.ValidateLabelName(key, path.Index(i))...)
	}
}
