package kind

import (
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

const (
	maxParallelIndexed = 100_000
	maxFailedIndexes   = 100_000
	maxManagedBy       = 63
)

// validateJob checks a new Job.
func validateJob(job *batchv1.Job) field.ErrorList {
	meta := job.ObjectMeta
	if maps.Equal(meta.Labels, generatedLabels(job)) {
		// Nobody wrote these. If they are wrong (a name that is too long for a
		// label), the template is told so.
		meta.Labels = nil
	}
	errs := validateMeta(&meta, true, apivalidation.NameIsDNSSubdomain)
	errs = append(errs, validateGenerated(job)...)
	errs = append(errs, validateWholeJobSpec(job, nil)...)
	return append(errs, validateIndexedName(job)...)
}

// validateGenerated checks the labels and the selector that generateSelector
// makes, unless the user chose his own.
func validateGenerated(job *batchv1.Job) field.ErrorList {
	if ptr.Deref(job.Spec.ManualSelector, false) || job.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if job.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	want := []string{legacyControllerUIDLabel, legacyJobNameLabel, batchv1.ControllerUidLabel, batchv1.JobNameLabel}
	generated, expected := generatedLabels(job), labels.Set{}
	for _, label := range want {
		expected[label] = generated[label]
		errs = append(errs, validateHasLabel(job.Spec.Template.Labels, label, generated[label])...)
	}
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err == nil && !selector.Matches(expected) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), job.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateHasLabel(set map[string]string, label, want string) field.ErrorList {
	path := field.NewPath("spec", "template", "metadata", "labels").Key(label)
	must := fmt.Sprintf("must be '%s'", want)
	switch have, ok := set[label]; {
	case !ok:
		return field.ErrorList{field.Required(path, must)}
	case have != want:
		return field.ErrorList{field.Invalid(path, set, must)}
	}
	return nil
}

// validateIndexedName checks that the highest index makes a hostname.
func validateIndexedName(job *batchv1.Job) field.ErrorList {
	completions := ptr.Deref(job.Spec.Completions, 0)
	if !Indexed(&job.Spec) || completions <= 0 {
		return nil
	}
	hostname := fmt.Sprintf("%s-%d", job.Name, completions-1)
	if len(validation.IsDNS1123Label(hostname)) == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), job.Name,
		fmt.Sprintf("will not able to create pod with invalid DNS label: %s", hostname))}
}

// validateWholeJobSpec checks the spec of a Job, with its selector.
func validateWholeJobSpec(job, old *batchv1.Job) field.ErrorList {
	spec, path := &job.Spec, field.NewPath("spec")
	var before *batchv1.JobSpec
	opts := metavalidation.LabelSelectorValidationOptions{}
	if old != nil {
		before = &old.Spec
		opts.AllowInvalidLabelValueInSelector = metavalidation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	}
	errs := validateJobSpec(spec, before, path)
	if spec.Selector == nil {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	} else {
		errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, opts, path.Child("selector"))...)
	}
	selector, err := metav1.LabelSelectorAsSelector(spec.Selector)
	if err == nil && !selector.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), spec.Template.Labels,
			"`selector` does not match template `labels`"))
	}
	return errs
}

// validateJobSpec checks what the specs of Jobs and Job templates have in
// common.
func validateJobSpec(spec, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := validateJobNumbers(spec, path)
	if spec.ManagedBy != nil {
		managedBy := path.Child("managedBy")
		errs = append(errs, validation.IsDomainPrefixedPath(managedBy, *spec.ManagedBy)...)
		if len(*spec.ManagedBy) > maxManagedBy {
			errs = append(errs, field.TooLong(managedBy, "", maxManagedBy))
		}
	}
	errs = append(errs, validateCompletionMode(spec, path)...)
	errs = append(errs, validatePodFailurePolicy(spec, path.Child("podFailurePolicy"))...)
	errs = append(errs, validateSuccessPolicy(spec, path.Child("successPolicy"))...)
	errs = append(errs, validatePodReplacementPolicy(spec, path.Child("podReplacementPolicy"))...)

	errs = append(errs, validateTemplate(&spec.Template, templateOf(old), path.Child("template"))...)
	return append(errs, validateRestartPolicy(spec, path.Child("template", "spec", "restartPolicy"))...)
}

func validateJobNumbers(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := nonnegative(spec.Parallelism, path.Child("parallelism"))
	errs = append(errs, nonnegative(spec.Completions, path.Child("completions"))...)
	errs = append(errs, nonnegative(spec.ActiveDeadlineSeconds, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, nonnegative(spec.BackoffLimit, path.Child("backoffLimit"))...)
	errs = append(errs, nonnegative(spec.TTLSecondsAfterFinished, path.Child("ttlSecondsAfterFinished"))...)
	errs = append(errs, nonnegative(spec.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, nonnegative(spec.MaxFailedIndexes, path.Child("maxFailedIndexes"))...)
	if spec.MaxFailedIndexes != nil && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	return errs
}

func validateCompletionMode(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) {
	case batchv1.IndexedCompletion:
		return validateIndexed(spec, path)
	case batchv1.NonIndexedCompletion:
		const needs = "requires indexed completion mode"
		if limit := spec.BackoffLimitPerIndex; limit != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *limit, needs))
		}
		if limit := spec.MaxFailedIndexes; limit != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *limit, needs))
		}
		return errs
	}
	return field.ErrorList{field.NotSupported(path.Child("completionMode"), spec.CompletionMode,
		[]batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion})}
}

// validateIndexed keeps the lists of indexes in the status of an Indexed Job
// from growing without bounds.
func validateIndexed(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	invalid := func(name string, value int32, format string, args ...any) {
		errs = append(errs, field.Invalid(path.Child(name), value, fmt.Sprintf(format, args...)))
	}
	parallelism, failed := ptr.Deref(spec.Parallelism, 0), ptr.Deref(spec.MaxFailedIndexes, 0)
	if spec.Completions == nil {
		errs = append(errs, field.Required(path.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	if parallelism > maxParallelIndexed {
		invalid("parallelism", parallelism, "must be less than or equal to %d when completion mode is %s",
			maxParallelIndexed, batchv1.IndexedCompletion)
	}
	if spec.Completions != nil && spec.MaxFailedIndexes != nil && failed > *spec.Completions {
		invalid("maxFailedIndexes", failed, "must be less than or equal to completions")
	}
	if failed > maxFailedIndexes {
		invalid("maxFailedIndexes", failed, "must be less than or equal to %d", maxFailedIndexes)
	}
	if ptr.Deref(spec.Completions, 0) <= manyCompletions || spec.BackoffLimitPerIndex == nil {
		return errs
	}
	if spec.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(path.Child("maxFailedIndexes"),
			fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	}
	const tooMany = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
	if parallelism > manyParallel {
		invalid("parallelism", parallelism, tooMany, manyParallel, manyCompletions)
	}
	if failed > manyParallel {
		invalid("maxFailedIndexes", failed, tooMany, manyParallel, manyCompletions)
	}
	return errs
}

func validatePodReplacementPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if spec.PodReplacementPolicy == nil {
		return nil
	}
	supported := []batchv1.PodReplacementPolicy{batchv1.Failed}
	if spec.PodFailurePolicy == nil {
		supported = append(supported, batchv1.TerminatingOrFailed)
	}
	if slices.Contains(supported, *spec.PodReplacementPolicy) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, *spec.PodReplacementPolicy, supported)}
}

// validateRestartPolicy refuses Always, which the defaults of a pod make of
// nothing, as if nothing was said.
func validateRestartPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch policy := spec.Template.Spec.RestartPolicy; policy {
	case "", corev1.RestartPolicyAlways:
		return field.ErrorList{field.Required(path,
			fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))}
	case corev1.RestartPolicyNever:
		return nil
	case corev1.RestartPolicyOnFailure:
		if spec.PodFailurePolicy == nil {
			return nil
		}
		return field.ErrorList{field.Invalid(path, policy,
			fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))}
	default:
		return field.ErrorList{field.NotSupported(path, policy,
			[]corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
	}
}
