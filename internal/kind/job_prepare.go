package kind

import (
	"maps"
	"math"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// The labels under which Kubernetes generated selectors before they had a
// domain; they are still set.
const (
	legacyJobNameLabel       = "job-name"
	legacyControllerUIDLabel = "controller-uid"
)

func defaultJob(job *batchv1.Job) {
	spec := &job.Spec
	if spec.Completions == nil && spec.Parallelism == nil {
		spec.Completions = ptr.To[int32](1)
	}
	// Completions without a value and parallelism with one: a work queue.
	setDefault(&spec.Parallelism, 1)
	if spec.BackoffLimitPerIndex != nil {
		setDefault(&spec.BackoffLimit, math.MaxInt32)
	}
	setDefault(&spec.BackoffLimit, 6)
	if len(job.Labels) == 0 && spec.Template.Labels != nil {
		// One map, so that the labels that prepareJob adds to the template
		// become labels of the Job too. That is how Kubernetes has it.
		job.Labels = spec.Template.Labels
	}
	setDefault(&spec.CompletionMode, batchv1.NonIndexedCompletion)
	setDefault(&spec.Suspend, false)
	if spec.PodFailurePolicy != nil {
		setDefault(&spec.PodReplacementPolicy, batchv1.Failed)
	}
	setDefault(&spec.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	setDefault(&spec.ManualSelector, false)
	defaultJobTemplate(spec)
}

// defaultJobTemplate sets what the defaults of a Job and of a CronJob's Job
// template have in common.
func defaultJobTemplate(spec *batchv1.JobSpec) {
	if spec.PodFailurePolicy != nil {
		for i := range spec.PodFailurePolicy.Rules {
			patterns := spec.PodFailurePolicy.Rules[i].OnPodConditions
			for j := range patterns {
				if patterns[j].Status == "" {
					patterns[j].Status = corev1.ConditionTrue
				}
			}
		}
	}
	podspec.DefaultTemplate(&spec.Template)
}

// setDefault points p at value if it points nowhere.
func setDefault[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

func prepareJob(job *batchv1.Job) {
	if !ptr.Deref(job.Spec.ManualSelector, false) {
		generateSelector(job)
	}
	if len(job.Labels) == 0 {
		job.Labels = job.Spec.Template.Labels
	}
	job.Labels = maps.Clone(job.Labels)
	job.Status = batchv1.JobStatus{}
	job.Generation = 1
	dropDisabled(&job.Spec, nil)
}

// generateSelector labels the pods of the Job with its name and uid, and lets
// its selector ask for the uid. Labels that the manifest brings along stay;
// validation refuses them if they are wrong.
func generateSelector(job *batchv1.Job) {
	template := &job.Spec.Template
	if template.Labels == nil {
		template.Labels = make(map[string]string, 4)
	}
	for label, value := range generatedLabels(job) {
		if _, given := template.Labels[label]; !given {
			template.Labels[label] = value
		}
	}
	if job.Spec.Selector == nil {
		job.Spec.Selector = &metav1.LabelSelector{}
	}
	selector := job.Spec.Selector
	if selector.MatchLabels == nil {
		selector.MatchLabels = make(map[string]string, 1)
	}
	if _, given := selector.MatchLabels[batchv1.ControllerUidLabel]; !given {
		selector.MatchLabels[batchv1.ControllerUidLabel] = string(job.UID)
	}
}

func generatedLabels(job *batchv1.Job) map[string]string {
	return map[string]string{
		legacyJobNameLabel:         job.Name,
		batchv1.JobNameLabel:       job.Name,
		legacyControllerUIDLabel:   string(job.UID),
		batchv1.ControllerUidLabel: string(job.UID),
	}
}

func prepareJobStatus(job, old *batchv1.Job) {
	job.Spec = old.Spec
	keepAnnotations(&job.ObjectMeta, &old.ObjectMeta)
}

func prepareJobUpdate(job, old *batchv1.Job) {
	job.Status = old.Status
	keepAnnotations(&job.ObjectMeta, &old.ObjectMeta)
	dropDisabled(&job.Spec, &old.Spec)
	countGeneration(&job.ObjectMeta, &old.ObjectMeta, job.Spec, old.Spec)
}

// dropDisabled drops the fields that Kubernetes takes behind an alpha gate
// only, unless they are in use already. old is nil on create.
func dropDisabled(spec, old *batchv1.JobSpec) {
	if old == nil || old.Scheduling == nil {
		spec.Scheduling = nil
	}
	podspec.DropDisabledTemplate(&spec.Template, templateOf(old))
}

func warnJob(job, old *batchv1.Job) []string {
	path := field.NewPath("spec")
	if old == nil {
		return append(warnPodName(job.Name), warnJobSpec(&job.Spec, path)...)
	}
	if job.Generation == old.Generation {
		return nil
	}
	return warnJobSpec(&job.Spec, path)
}

// Beyond these, Kubernetes cannot promise to keep count of every index.
const (
	manyCompletions = 100_000
	manyParallel    = 10_000
)

func warnJobSpec(spec *batchv1.JobSpec, path *field.Path) []string {
	var warnings []string
	if Indexed(spec) && ptr.Deref(spec.Completions, 0) > manyCompletions && ptr.Deref(spec.Parallelism, 0) > manyParallel {
		warnings = append(warnings, path.String()+": In Indexed Jobs with a number of completions higher than 10^5 and a parallelism "+
			"higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(warnings, podspec.TemplateWarnings(&spec.Template, path.Child("template"))...)
}

// Indexed reports whether the pods of a Job have completion indexes.
func Indexed(spec *batchv1.JobSpec) bool {
	return ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}
