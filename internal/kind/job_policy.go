package kind

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// How long the parts of a policy may be.
const (
	maxPolicyRules      = 20
	maxPolicyExitCodes  = 255
	maxPolicyConditions = 20
	maxSucceededIndexes = 64 * 1024
)

func validatePodFailurePolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if spec.PodFailurePolicy == nil {
		return nil
	}
	var errs field.ErrorList
	rules, at := spec.PodFailurePolicy.Rules, path.Child("rules")
	if len(rules) > maxPolicyRules {
		errs = append(errs, field.TooMany(at, len(rules), maxPolicyRules))
	}
	names := sets.New[string]()
	for _, c := range slices.Concat(spec.Template.Spec.Containers, spec.Template.Spec.InitContainers) {
		names.Insert(c.Name)
	}
	for i := range rules {
		errs = append(errs, validateFailureRule(spec, &rules[i], names, at.Index(i))...)
	}
	return errs
}

func validateFailureRule(spec *batchv1.JobSpec, rule *batchv1.PodFailurePolicyRule, containers sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	action := path.Child("action")
	errs = append(errs, oneOf(action, rule.Action, batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore)...)
	if rule.Action == batchv1.PodFailurePolicyActionFailIndex && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(action, rule.Action, "requires the backoffLimitPerIndex to be set"))
	}
	if rule.OnExitCodes != nil {
		errs = append(errs, validateOnExitCodes(rule.OnExitCodes, containers, path.Child("onExitCodes"))...)
	}
	errs = append(errs, validateOnPodConditions(rule.OnPodConditions, path.Child("onPodConditions"))...)
	switch codes, conditions := rule.OnExitCodes != nil, len(rule.OnPodConditions) > 0; {
	case codes && conditions:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case !codes && !conditions:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return errs
}

// oneOf checks a value that must be one of those supported, given in order.
func oneOf[T ~string](path *field.Path, value T, supported ...T) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q", supported))}
	case !slices.Contains(supported, value):
		return field.ErrorList{field.NotSupported(path, value, supported)}
	}
	return nil
}

func validateOnExitCodes(on *batchv1.PodFailurePolicyOnExitCodesRequirement, containers sets.Set[string], path *field.Path) field.ErrorList {
	errs := oneOf(path.Child("operator"), on.Operator, batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	if on.ContainerName != nil && !containers.Has(*on.ContainerName) {
		errs = append(errs, field.Invalid(path.Child("containerName"), *on.ContainerName,
			"must be one of the container or initContainer names in the pod template"))
	}
	at := path.Child("values")
	switch count := len(on.Values); {
	case count == 0:
		errs = append(errs, field.Invalid(at, on.Values, "at least one value is required"))
	case count > maxPolicyExitCodes:
		errs = append(errs, field.TooMany(at, count, maxPolicyExitCodes))
	}
	seen := sets.New[int32]()
	for i, code := range on.Values {
		if code == 0 && on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			errs = append(errs, field.Invalid(at.Index(i), code, "must not be 0 for the In operator"))
		}
		if seen.Has(code) {
			errs = append(errs, field.Duplicate(at.Index(i), code))
		}
		seen.Insert(code)
	}
	if !slices.IsSorted(on.Values) {
		errs = append(errs, field.Invalid(at, on.Values, "must be ordered"))
	}
	return errs
}

func validateOnPodConditions(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(patterns) > maxPolicyConditions {
		errs = append(errs, field.TooMany(path, len(patterns), maxPolicyConditions))
	}
	for i, pattern := range patterns {
		at := path.Index(i)
		for _, msg := range validation.IsQualifiedName(string(pattern.Type)) {
			errs = append(errs, field.Invalid(at.Child("type"), string(pattern.Type), msg))
		}
		errs = append(errs, oneOf(at.Child("status"), pattern.Status, corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
	}
	return errs
}

func validateSuccessPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	policy := spec.SuccessPolicy
	if policy == nil {
		return nil
	}
	if !Indexed(spec) {
		return field.ErrorList{field.Invalid(path, podspec.Internal(*policy), "requires indexed completion mode")}
	}
	var errs field.ErrorList
	at := path.Child("rules")
	switch count := len(policy.Rules); {
	case count == 0:
		errs = append(errs, field.Required(at, "at least one rules must be specified when the successPolicy is specified"))
	case count > maxPolicyRules:
		errs = append(errs, field.TooMany(at, count, maxPolicyRules))
	}
	completions := ptr.Deref(spec.Completions, 0)
	for i, rule := range policy.Rules {
		errs = append(errs, validateSuccessRule(rule, completions, at.Index(i))...)
	}
	return errs
}

func validateSuccessRule(rule batchv1.SuccessPolicyRule, completions int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
		errs = append(errs, field.Required(path, "at least one of succeededCount or succeededIndexes must be specified"))
	}
	var total int32
	if indexes := rule.SucceededIndexes; indexes != nil {
		at := path.Child("succeededIndexes")
		if len(*indexes) > maxSucceededIndexes {
			errs = append(errs, field.TooLong(at, "", maxSucceededIndexes))
		}
		var err error
		if total, err = countIndexes(*indexes, completions); err != nil {
			errs = append(errs, field.Invalid(at, *indexes, fmt.Sprintf("error parsing succeededIndexes: %s", err)))
		}
	}
	if rule.SucceededCount == nil {
		return errs
	}
	at, count := path.Child("succeededCount"), *rule.SucceededCount
	errs = append(errs, nonnegative(rule.SucceededCount, at)...)
	if count > completions {
		errs = append(errs, field.Invalid(at, count,
			fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
	}
	if rule.SucceededIndexes != nil && count > total {
		errs = append(errs, field.Invalid(at, count,
			fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
	}
	return errs
}
