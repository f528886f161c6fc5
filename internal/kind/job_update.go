package kind

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// validateJobUpdate checks a changed Job: its spec, and for what may change. That the
// generated labels are those of a new Job is not asked again.
func validateJobUpdate(job, old *batchv1.Job) field.ErrorList {
	errs := validateMetaUpdate(&job.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateWholeJobSpec(job, old)...)

	path, spec, before := field.NewPath("spec"), &job.Spec, &old.Spec
	errs = append(errs, validateCompletionsUpdate(spec, before, path.Child("completions"))...)
	errs = append(errs, immutable(spec.Selector, before.Selector, path.Child("selector"))...)
	errs = append(errs, validateTemplateUpdate(spec, old, path)...)
	errs = append(errs, immutable(spec.CompletionMode, before.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, immutableInternal(spec.PodFailurePolicy, before.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, immutable(spec.BackoffLimitPerIndex, before.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, immutable(spec.ManagedBy, before.ManagedBy, path.Child("managedBy"))...)
	errs = append(errs, immutableInternal(spec.SuccessPolicy, before.SuccessPolicy, path.Child("successPolicy"))...)
	return append(errs, validateIndexedName(job)...)
}

// validateCompletionsUpdate lets an Indexed Job grow and shrink, as long as
// all its indexes may run at once.
func validateCompletionsUpdate(spec, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if !Indexed(spec) {
		return immutable(spec.Completions, old.Completions, path)
	}
	if spec.Completions == nil || ptr.Equal(spec.Completions, old.Completions) || ptr.Equal(spec.Completions, spec.Parallelism) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, spec.Completions,
		fmt.Sprintf("can only be modified in tandem with %s", path.Root().Child("parallelism")))}
}

// validateTemplateUpdate refuses changes of the template, except while the Job
// is suspended and has no pods: then where its pods go may change, their
// labels and annotations, and the resources that they ask for.
func validateTemplateUpdate(spec *batchv1.JobSpec, old *batchv1.Job, path *field.Path) field.ErrorList {
	template, before := &spec.Template, &old.Spec.Template
	path = path.Child("template")
	if !templateMutable(old) {
		return immutableInternal(template, before, path)
	}
	before = before.DeepCopy()
	allowScheduling(&before.Spec, &template.Spec)
	allowResources(before.Spec.Containers, template.Spec.Containers)
	allowResources(before.Spec.InitContainers, template.Spec.InitContainers)
	// The metadata of a template is labels and annotations; both may change.
	return immutableInternal(template.Spec, before.Spec, field.NewPath("spec", "template.spec"))
}

// templateMutable reports whether no pod can have been made of the present
// template, or none of them is left.
func templateMutable(job *batchv1.Job) bool {
	if !ptr.Deref(job.Spec.Suspend, false) || job.Status.Active != 0 {
		return false
	}
	return job.Status.StartTime == nil || JobCondition(&job.Status, batchv1.JobSuspended) != nil
}

// allowScheduling copies to old what may be different in spec: node affinity
// (and no other), node selector, tolerations and scheduling gates.
func allowScheduling(old, spec *corev1.PodSpec) {
	switch {
	case spec.Affinity != nil:
		if old.Affinity == nil {
			old.Affinity = &corev1.Affinity{}
		}
		old.Affinity.NodeAffinity = spec.Affinity.NodeAffinity
	case old.Affinity != nil:
		old.Affinity.NodeAffinity = nil
		if *old.Affinity == (corev1.Affinity{}) {
			old.Affinity = nil
		}
	}
	old.NodeSelector = spec.NodeSelector
	old.Tolerations = spec.Tolerations
	old.SchedulingGates = spec.SchedulingGates
}

// allowResources copies to old the resources of the containers that are at the
// same place under the same name.
func allowResources(old, containers []corev1.Container) {
	if len(old) != len(containers) {
		return
	}
	for i := range old {
		if old[i].Name == containers[i].Name {
			old[i].Resources = containers[i].Resources
		}
	}
}

// immutableInternal is immutable for values whose Kubernetes-internal form is
// what a client sees in the message.
func immutableInternal(value, old any, path *field.Path) field.ErrorList {
	if equality.Semantic.DeepEqual(value, old) {
		return nil
	}
	return immutable(podspec.Internal(value), nil, path)
}
