package kind

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/utils/ptr"
)

// Job is the row of batch/v1 jobs.
func Job() *Kind {
	return &Kind{
		Names: Names{
			Resource:   Jobs,
			Singular:   "job",
			Categories: []string{"all"},
			Namespaced: true,
			GVK:        batchv1.SchemeGroupVersion.WithKind("Job"),
		},
		Types: Types{
			New:     func() Object { return &batchv1.Job{} },
			NewList: func() runtime.Object { return &batchv1.JobList{} },
			Default: changes(defaultJob),
		},
		Create: Create{
			Prepare:  changes(prepareJob),
			Validate: checks(validateJob),
		},
		Update: Update{Prepare: updates(prepareJobUpdate), Validate: checksUpdate(validateJobUpdate), Advise: adviseReplacing},
		Status: &Update{Prepare: updates(prepareJobStatus), Validate: checksUpdate(validateJobStatusUpdate)},
		Warn:   warns(warnJob),
		Select: Select{Fields: selects(func(job *batchv1.Job) fields.Set {
			return fields.Set{"status.successful": strconv.Itoa(int(job.Status.Succeeded))}
		})},
		Table:      Printer{Columns: jobColumns(), Cells: prints(jobCells)},
		Dependents: Dependents{Propagation: metav1.DeletePropagationOrphan, Warning: orphanWarning},
	}
}

// orphanWarning is what Kubernetes answers to a DELETE of a Job that does not
// say what to do with its pods.
const orphanWarning = "child pods are preserved by default when jobs are deleted; " +
	"set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"

func jobColumns() []metav1.TableColumnDefinition {
	return append([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Status", "string", "Status of the job."),
		column("Completions", "string", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
		column("Duration", "string", "Time required to complete the job."),
		ageColumn(),
	}, templateColumns()...)
}

// templateColumns are the wide columns of what makes pods from a template.
func templateColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		wideColumn("Containers", "string", "Names of each container in the template."),
		wideColumn("Images", "string", "Images referenced by each container in the template."),
		wideColumn("Selector", "string", batchv1.JobSpec{}.SwaggerDoc()["selector"]),
	}
}

func jobCells(job *batchv1.Job, now time.Time) []any {
	names, images := containerCells(job.Spec.Template.Spec.Containers)
	return []any{
		job.Name, jobStatusCell(job), jobCompletions(job), jobDuration(&job.Status, now), age(job.CreationTimestamp, now),
		names, images, metav1.FormatLabelSelector(job.Spec.Selector),
	}
}

func jobStatusCell(job *batchv1.Job) string {
	is := func(t batchv1.JobConditionType) bool { return JobCondition(&job.Status, t) != nil }
	switch {
	case is(batchv1.JobComplete):
		return "Complete"
	case is(batchv1.JobFailed):
		return "Failed"
	case job.DeletionTimestamp != nil:
		return "Terminating"
	case is(batchv1.JobSuspended):
		return "Suspended"
	case is(batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobCompletions(job *batchv1.Job) string {
	if want := job.Spec.Completions; want != nil {
		return fmt.Sprintf("%d/%d", job.Status.Succeeded, *want)
	}
	// A work queue: any one success completes it.
	if parallelism := ptr.Deref(job.Spec.Parallelism, 0); parallelism > 1 {
		return fmt.Sprintf("%d/1 of %d", job.Status.Succeeded, parallelism)
	}
	return fmt.Sprintf("%d/1", job.Status.Succeeded)
}

// jobDuration tells how long the Job ran. Only a Job that succeeded has a
// completionTime: that of a failed one goes on, as on Kubernetes.
func jobDuration(status *batchv1.JobStatus, now time.Time) string {
	switch {
	case status.StartTime == nil:
		return ""
	case status.CompletionTime == nil:
		return duration.HumanDuration(now.Sub(status.StartTime.Time))
	}
	return duration.HumanDuration(status.CompletionTime.Sub(status.StartTime.Time))
}

// JobCondition returns the first condition that is of one of these types and
// True; nil if none is.
func JobCondition(s *batchv1.JobStatus, types ...batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if c := &s.Conditions[i]; c.Status == corev1.ConditionTrue && slices.Contains(types, c.Type) {
			return c
		}
	}
	return nil
}

// JobEnd returns the condition with which the Job has ended, Complete or Failed;
// nil if it has not.
func JobEnd(job *batchv1.Job) *batchv1.JobCondition {
	return JobCondition(&job.Status, batchv1.JobComplete, batchv1.JobFailed)
}
