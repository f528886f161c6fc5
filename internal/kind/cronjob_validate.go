package kind

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // a time zone is valid or not, whatever this machine has installed

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// maxCronJobName leaves room in the name of a Job for what the controller
// appends: a dash and ten digits.
const maxCronJobName = validation.DNS1035LabelMaxLength - 11

func validateCronJob(cj *batchv1.CronJob) field.ErrorList {
	errs := validateMeta(&cj.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	errs = append(errs, validateCronJobSpec(&cj.Spec, nil)...)
	if len(cj.Name) > maxCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), cj.Name, "must be no more than 52 characters"))
	}
	return append(errs, validateDeclared(&cj.Spec)...)
}

func validateCronJobUpdate(cj, old *batchv1.CronJob) field.ErrorList {
	errs := validateMetaUpdate(&cj.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateCronJobSpec(&cj.Spec, &old.Spec)...)
	return append(errs, validateDeclared(&cj.Spec)...)
}

// validateDeclared checks what the tags of Kubernetes' types say: it comes after
// everything else.
func validateDeclared(spec *batchv1.CronJobSpec) field.ErrorList {
	if spec.Schedule == "" {
		return field.ErrorList{field.Required(field.NewPath("spec", "schedule"), "")}
	}
	return nil
}

// validateCronJobSpec checks a spec; old is nil on create.
func validateCronJobSpec(spec, old *batchv1.CronJobSpec) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if spec.Schedule != "" {
		errs = append(errs, validateSchedule(spec, old, path.Child("schedule"))...)
	}
	errs = append(errs, nonnegative(spec.StartingDeadlineSeconds, path.Child("startingDeadlineSeconds"))...)
	if old == nil || !ptr.Equal(old.TimeZone, spec.TimeZone) {
		errs = append(errs, validateTimeZone(spec.TimeZone, path.Child("timeZone"))...)
	}
	errs = append(errs, validateConcurrencyPolicy(spec.ConcurrencyPolicy, path.Child("concurrencyPolicy"))...)

	var oldJob *batchv1.JobSpec
	if old != nil {
		oldJob = &old.JobTemplate.Spec
	}
	errs = append(errs, validateJobTemplate(&spec.JobTemplate.Spec, oldJob, path.Child("jobTemplate", "spec"))...)
	errs = append(errs, nonnegative(spec.SuccessfulJobsHistoryLimit, path.Child("successfulJobsHistoryLimit"))...)
	return append(errs, nonnegative(spec.FailedJobsHistoryLimit, path.Child("failedJobsHistoryLimit"))...)
}

// validateSchedule checks the schedule's grammar, and that it names no time
// zone: there is a field for that. (CronJobs that did so before may go on.)
func validateSchedule(spec, old *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if _, err := ParseSchedule(spec.Schedule); err != nil {
		errs = append(errs, field.Invalid(path, spec.Schedule, err.Error()))
	}
	if !strings.Contains(spec.Schedule, "TZ") {
		return errs
	}
	switch before := old != nil && strings.Contains(old.Schedule, "TZ"); {
	case !before:
		errs = append(errs, field.Invalid(path, spec.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	case spec.TimeZone != nil:
		errs = append(errs, field.Invalid(path, spec.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
	}
	return errs
}

// ParseSchedule reads the schedule of a CronJob as Kubernetes does.
func ParseSchedule(schedule string) (s cron.Schedule, err error) {
	// The parser panics on some of what is not a schedule ("TZ=0").
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("invalid schedule format: %v", r)
		}
	}()
	return cron.ParseStandard(schedule)
}

// zonePart is one component of a time zone's name, by the rules of the IANA
// and with the digits and signs of the old names.
var zonePart = regexp.MustCompile(`^[A-Za-z\.\-_0-9+]{1,14}$`)

func validateTimeZone(zone *string, path *field.Path) field.ErrorList {
	if zone == nil {
		return nil
	}
	if *zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	// Nothing that could lead out of the directory of time zones.
	for part := range strings.SplitSeq(*zone, "/") {
		if part == "." || part == ".." || strings.HasPrefix(part, "-") || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, zone, fmt.Sprintf("unknown time zone %s", *zone))}
		}
	}
	var errs field.ErrorList
	if strings.EqualFold(*zone, "Local") {
		errs = append(errs, field.Invalid(path, zone,
			"timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		errs = append(errs, field.Invalid(path, zone, err.Error()))
	}
	return errs
}

func validateConcurrencyPolicy(policy batchv1.ConcurrencyPolicy, path *field.Path) field.ErrorList {
	switch policy {
	case batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent:
		return nil
	case "":
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.NotSupported(path, policy,
		[]batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent})}
}

// validateJobTemplate checks the spec of the Jobs that a CronJob makes: their
// selectors are always generated.
func validateJobTemplate(spec, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := validateJobSpec(spec, old, path)
	if spec.Selector != nil {
		errs = append(errs, field.Invalid(path.Child("selector"), spec.Selector, "`selector` will be auto-generated"))
	}
	if ptr.Deref(spec.ManualSelector, false) {
		errs = append(errs, field.NotSupported(path.Child("manualSelector"), spec.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

func warnCronJob(cj, old *batchv1.CronJob) []string {
	path, spec := field.NewPath("spec", "jobTemplate", "spec"), &cj.Spec.JobTemplate.Spec
	if old == nil {
		return append(warnPodName(cj.Name), warnJobSpec(spec, path)...)
	}
	var warnings []string
	if cj.Generation != old.Generation {
		warnings = warnJobSpec(spec, path)
	}
	if strings.Contains(cj.Spec.Schedule, "TZ") {
		warnings = append(warnings, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return warnings
}
