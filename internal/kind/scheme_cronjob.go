package kind

import (
	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
)

// addCronJobsBeta serves the stored v1 CronJobs as batch/v1beta1 too. Nothing
// but the Go types differs between the two versions.
func addCronJobsBeta(s *runtime.Scheme) error {
	addVersion(s, batchv1beta1.SchemeGroupVersion, &batchv1beta1.CronJob{}, &batchv1beta1.CronJobList{})

	// Defaulting happens before conversion, so it has to pass through v1.
	s.AddTypeDefaultingFunc(&batchv1beta1.CronJob{}, func(obj any) {
		beta, stable := obj.(*batchv1beta1.CronJob), &batchv1.CronJob{}
		stableCronJob(beta, stable)
		defaultCronJob(stable)
		betaCronJob(stable, beta)
	})
	if err := convertsBothWays(s, stableCronJob, betaCronJob); err != nil {
		return err
	}
	return convertsBothWays(s,
		func(in *batchv1beta1.CronJobList, out *batchv1.CronJobList) {
			out.ListMeta = in.ListMeta
			out.Items = convertItems(in.Items, stableCronJob)
		},
		func(in *batchv1.CronJobList, out *batchv1beta1.CronJobList) {
			out.ListMeta = in.ListMeta
			out.Items = convertItems(in.Items, betaCronJob)
		})
}

// stableCronJob fills out with the v1 form of in.
func stableCronJob(in *batchv1beta1.CronJob, out *batchv1.CronJob) {
	out.ObjectMeta = in.ObjectMeta
	out.Spec = batchv1.CronJobSpec{
		Schedule:                   in.Spec.Schedule,
		TimeZone:                   in.Spec.TimeZone,
		StartingDeadlineSeconds:    in.Spec.StartingDeadlineSeconds,
		ConcurrencyPolicy:          batchv1.ConcurrencyPolicy(in.Spec.ConcurrencyPolicy),
		Suspend:                    in.Spec.Suspend,
		JobTemplate:                batchv1.JobTemplateSpec(in.Spec.JobTemplate),
		SuccessfulJobsHistoryLimit: in.Spec.SuccessfulJobsHistoryLimit,
		FailedJobsHistoryLimit:     in.Spec.FailedJobsHistoryLimit,
	}
	out.Status = batchv1.CronJobStatus(in.Status)
}

// betaCronJob fills out with the v1beta1 form of in.
func betaCronJob(in *batchv1.CronJob, out *batchv1beta1.CronJob) {
	out.ObjectMeta = in.ObjectMeta
	out.Spec = batchv1beta1.CronJobSpec{
		Schedule:                   in.Spec.Schedule,
		TimeZone:                   in.Spec.TimeZone,
		StartingDeadlineSeconds:    in.Spec.StartingDeadlineSeconds,
		ConcurrencyPolicy:          batchv1beta1.ConcurrencyPolicy(in.Spec.ConcurrencyPolicy),
		Suspend:                    in.Spec.Suspend,
		JobTemplate:                batchv1beta1.JobTemplateSpec(in.Spec.JobTemplate),
		SuccessfulJobsHistoryLimit: in.Spec.SuccessfulJobsHistoryLimit,
		FailedJobsHistoryLimit:     in.Spec.FailedJobsHistoryLimit,
	}
	out.Status = batchv1beta1.CronJobStatus(in.Status)
}
