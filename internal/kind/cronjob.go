package kind

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CronJob is the row of batch/v1 cronjobs, which are batch/v1beta1 cronjobs
// too, as they were until Kubernetes 1.25.
func CronJob() *Kind {
	return &Kind{
		Names: Names{
			Resource:   CronJobs,
			Singular:   "cronjob",
			ShortNames: []string{"cj"},
			Categories: []string{"all"},
			Namespaced: true,
			GVK:        batchv1.SchemeGroupVersion.WithKind("CronJob"),
		},
		Types: Types{
			New:     func() Object { return &batchv1.CronJob{} },
			NewList: func() runtime.Object { return &batchv1.CronJobList{} },
			Default: changes(defaultCronJob),
		},
		Versions: []Version{{
			GroupVersion: batchv1beta1.SchemeGroupVersion,
			AddToScheme:  addCronJobsBeta,
			Propagation:  metav1.DeletePropagationOrphan,
		}},
		Create: Create{Prepare: changes(prepareCronJob), Validate: checks(validateCronJob)},
		Update: Update{Prepare: updates(prepareCronJobUpdate), Validate: checksUpdate(validateCronJobUpdate)},
		Status: &Update{
			Prepare: updates(prepareCronJobStatus),
			// Kubernetes checks nothing in a status of a CronJob.
			Validate: checksUpdate(func(_, _ *batchv1.CronJob) field.ErrorList { return nil }),
		},
		Warn:  warns(warnCronJob),
		Table: Printer{Columns: cronJobColumns(), Cells: prints(cronJobCells)},
	}
}

func cronJobColumns() []metav1.TableColumnDefinition {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Schedule", "string", spec["schedule"]),
		column("Timezone", "string", spec["timeZone"]),
		column("Suspend", "boolean", spec["suspend"]),
		column("Active", "integer", status["active"]),
		column("Last Schedule", "string", status["lastScheduleTime"]),
		ageColumn(),
	}, templateColumns()...)
}

func cronJobCells(cj *batchv1.CronJob, now time.Time) []any {
	zone, suspend, last := "<none>", "<unset>", "<none>"
	if cj.Spec.TimeZone != nil {
		zone = *cj.Spec.TimeZone
	}
	if cj.Spec.Suspend != nil {
		suspend = "False"
		if *cj.Spec.Suspend {
			suspend = "True"
		}
	}
	if cj.Status.LastScheduleTime != nil {
		last = age(*cj.Status.LastScheduleTime, now)
	}
	template := &cj.Spec.JobTemplate.Spec
	names, images := containerCells(template.Template.Spec.Containers)
	return []any{
		cj.Name, cj.Spec.Schedule, zone, suspend, int64(len(cj.Status.Active)), last, age(cj.CreationTimestamp, now),
		names, images, metav1.FormatLabelSelector(template.Selector),
	}
}

func defaultCronJob(cj *batchv1.CronJob) {
	if cj.Spec.ConcurrencyPolicy == "" {
		cj.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	setDefault(&cj.Spec.Suspend, false)
	setDefault(&cj.Spec.SuccessfulJobsHistoryLimit, 3)
	setDefault(&cj.Spec.FailedJobsHistoryLimit, 1)
	// The rest of the Job's defaults is set when the Job is made.
	defaultJobTemplate(&cj.Spec.JobTemplate.Spec)
}

func prepareCronJob(cj *batchv1.CronJob) {
	cj.Status = batchv1.CronJobStatus{}
	cj.Generation = 1
	dropDisabled(&cj.Spec.JobTemplate.Spec, nil)
}

func prepareCronJobStatus(cj, old *batchv1.CronJob) {
	cj.Spec = old.Spec
	keepAnnotations(&cj.ObjectMeta, &old.ObjectMeta)
}

func prepareCronJobUpdate(cj, old *batchv1.CronJob) {
	cj.Status = old.Status
	keepAnnotations(&cj.ObjectMeta, &old.ObjectMeta)
	dropDisabled(&cj.Spec.JobTemplate.Spec, &old.Spec.JobTemplate.Spec)
	countGeneration(&cj.ObjectMeta, &old.ObjectMeta, cj.Spec, old.Spec)
}
