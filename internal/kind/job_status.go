package kind

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// validateJobStatusUpdate checks a write through /status. Who writes may be
// another controller (spec.managedBy), and clients rely on what a status says:
// that a finished Job stays finished, has no pods, counts never fall, ….
//
// A rule is only held against a status that changes what the rule is about:
// a spec that was changed meanwhile may make the rest look wrong for a moment.
func validateJobStatusUpdate(job, old *batchv1.Job) field.ErrorList {
	errs := validateMetaUpdate(&job.ObjectMeta, &old.ObjectMeta)
	c := newStatusChange(job, old)
	c.counters()
	c.uncounted()
	c.completion()
	c.finished()
	c.indexes()
	c.more()
	c.policy()
	c.transitions()
	return append(errs, c.errs...)
}

// statusChange collects what is wrong with a step from one status to the next.
type statusChange struct {
	job, old *batchv1.Job
	now, was *batchv1.JobStatus
	errs     field.ErrorList

	// What the conditions say about the new status …
	complete, failed, failureTarget, criteriaMet bool
	// … and which of it changed.
	completeChanged, failedChanged, failureTargetChanged, criteriaMetChanged, finishedChanged bool
}

func newStatusChange(job, old *batchv1.Job) *statusChange {
	c := &statusChange{job: job, old: old, now: &job.Status, was: &old.Status}
	state := func(t batchv1.JobConditionType) (is, changed bool) {
		is = JobCondition(c.now, t) != nil
		return is, is != (JobCondition(c.was, t) != nil)
	}
	c.complete, c.completeChanged = state(batchv1.JobComplete)
	c.failed, c.failedChanged = state(batchv1.JobFailed)
	c.failureTarget, c.failureTargetChanged = state(batchv1.JobFailureTarget)
	c.criteriaMet, c.criteriaMetChanged = state(batchv1.JobSuccessCriteriaMet)
	wasFinished := c.complete != c.completeChanged || c.failed != c.failedChanged
	c.finishedChanged = c.isFinished() != wasFinished
	return c
}

func (c *statusChange) isFinished() bool { return c.complete || c.failed }

// wasTrue reports whether the condition was true before.
func (c *statusChange) wasTrue(t batchv1.JobConditionType) bool {
	return JobCondition(c.was, t) != nil
}

func (c *statusChange) path(name string) *field.Path { return field.NewPath("status", name) }

func (c *statusChange) add(errs ...*field.Error) { c.errs = append(c.errs, errs...) }

func (c *statusChange) invalid(name string, value any, detail string) {
	c.add(field.Invalid(c.path(name), value, detail))
}

// contradiction reports conditions that do not go together.
func (c *statusChange) contradiction(detail string) {
	c.invalid("conditions", field.OmitValueType{}, detail)
}

func (c *statusChange) counters() {
	c.add(nonnegative(&c.now.Active, c.path("active"))...)
	c.add(nonnegative(&c.now.Succeeded, c.path("succeeded"))...)
	c.add(nonnegative(&c.now.Failed, c.path("failed"))...)
	c.add(nonnegative(c.now.Ready, c.path("ready"))...)
	c.add(nonnegative(c.now.Terminating, c.path("terminating"))...)
}

func (c *statusChange) uncounted() {
	pods := c.now.UncountedTerminatedPods
	if pods == nil {
		return
	}
	seen := sets.New[types.UID]()
	check := func(uids []types.UID, path *field.Path) {
		for i, uid := range uids {
			switch at := path.Index(i); {
			case uid == "":
				c.add(field.Invalid(at, uid, "must not be empty"))
			case seen.Has(uid):
				c.add(field.Duplicate(at, uid))
			}
			seen.Insert(uid)
		}
	}
	path := c.path("uncountedTerminatedPods")
	check(pods.Succeeded, path.Child("succeeded"))
	check(pods.Failed, path.Child("failed"))
}

// completion checks the conditions against each other and completionTime.
func (c *statusChange) completion() {
	start, end := c.now.StartTime, c.now.CompletionTime
	startChanged, endChanged := !ptr.Equal(start, c.was.StartTime), !ptr.Equal(end, c.was.CompletionTime)
	if (c.completeChanged || c.failedChanged) && c.complete && c.failed {
		c.contradiction("cannot set Complete=True and Failed=true conditions")
	}
	if (c.completeChanged || c.failureTargetChanged) && c.complete && c.failureTarget {
		c.contradiction("cannot set Complete=True and FailureTarget=true conditions")
	}
	if (c.completeChanged || endChanged) && end != nil && !c.complete {
		c.invalid("completionTime", end, "cannot set completionTime when there is no Complete=True condition")
	}
	if (c.completeChanged || endChanged) && end == nil && c.complete {
		c.add(field.Required(c.path("completionTime"), "completionTime is required for Complete jobs"))
	}
	if (startChanged || endChanged) && start != nil && end != nil && end.Before(start) {
		c.invalid("completionTime", end, "must be equal to or after `startTime`")
	}
	failedIndexesChanged := !ptr.Equal(c.now.FailedIndexes, c.was.FailedIndexes)
	if (c.failedChanged || failedIndexesChanged) && c.failed && !c.failureTarget {
		c.contradiction("cannot set Failed=True condition without the FailureTarget=true condition")
	}
	if (c.completeChanged || c.criteriaMetChanged) && c.complete && !c.criteriaMet {
		c.contradiction("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	}
}

// finished checks what a finished Job must have, and no longer have.
func (c *statusChange) finished() {
	if !c.isFinished() {
		return
	}
	if (c.finishedChanged || c.now.Active != c.was.Active) && c.now.Active > 0 {
		c.invalid("active", c.now.Active, "active>0 is invalid for finished job")
	}
	spec := &c.job.Spec
	neverStarted := ptr.Deref(spec.Suspend, false) && ptr.Equal(spec.Completions, ptr.To[int32](0))
	startChanged := !ptr.Equal(c.now.StartTime, c.was.StartTime)
	if (c.finishedChanged || startChanged) && !neverStarted && c.now.StartTime == nil {
		c.add(field.Required(c.path("startTime"), "startTime is required for finished job"))
	}
	pods := c.now.UncountedTerminatedPods
	podsChanged := !equality.Semantic.DeepEqual(pods, c.was.UncountedTerminatedPods)
	if (c.finishedChanged || podsChanged) && pods != nil && len(pods.Failed)+len(pods.Succeeded) > 0 {
		c.invalid("uncountedTerminatedPods", podspec.Internal(pods), "must be empty for finished job")
	}
}

func (c *statusChange) indexes() {
	spec, completed, failed := &c.job.Spec, c.now.CompletedIndexes, c.now.FailedIndexes
	completedChanged := completed != c.was.CompletedIndexes
	failedChanged := !ptr.Equal(failed, c.was.FailedIndexes)
	if completedChanged && spec.Completions != nil {
		if _, err := countIndexes(completed, *spec.Completions); err != nil {
			c.invalid("completedIndexes", completed, fmt.Sprintf("error parsing completedIndexes: %s", err))
		}
	}
	if failedChanged && spec.Completions != nil && spec.BackoffLimitPerIndex != nil && failed != nil {
		if _, err := countIndexes(*failed, *spec.Completions); err != nil {
			c.invalid("failedIndexes", failed, fmt.Sprintf("error parsing failedIndexes: %s", err))
		}
	}
	if completedChanged && completed != "" && !Indexed(spec) {
		c.invalid("completedIndexes", completed, "cannot set non-empty completedIndexes when non-indexed completion mode")
	}
	if failedChanged && failed != nil && spec.BackoffLimitPerIndex == nil {
		c.invalid("failedIndexes", *failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
	}
	if (failedChanged || completedChanged) && spec.Completions != nil && failed != nil {
		if index, both := firstCommonIndex(completed, *failed, *spec.Completions); both {
			c.invalid("failedIndexes", *failed, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", index))
		}
	}
}

// more checks the counts that Kubernetes added later.
func (c *statusChange) more() {
	terminating := c.now.Terminating
	terminatingChanged := !ptr.Equal(terminating, c.was.Terminating)
	if (c.finishedChanged || terminatingChanged) && c.isFinished() && ptr.Deref(terminating, 0) > 0 {
		c.invalid("terminating", terminating, "terminating>0 is invalid for finished job")
	}
	readyChanged := !ptr.Equal(c.now.Ready, c.was.Ready)
	if (readyChanged || c.now.Active != c.was.Active) && c.now.Ready != nil && *c.now.Ready > c.now.Active {
		c.invalid("ready", *c.now.Ready, "cannot set more ready pods than active")
	}
}

// policy checks SuccessCriteriaMet against the other conditions, whatever
// changed.
func (c *statusChange) policy() {
	if c.criteriaMet && c.failed {
		c.contradiction("cannot set SuccessCriteriaMet=True and Failed=true conditions")
	}
	if c.criteriaMet && c.failureTarget {
		c.contradiction("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	}
	if c.job.Spec.SuccessPolicy != nil && c.complete && !c.criteriaMet {
		c.contradiction("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	}
}

// transitions checks what must not be taken back.
func (c *statusChange) transitions() {
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if c.wasTrue(t) && JobCondition(c.now, t) == nil {
			c.contradiction(fmt.Sprintf("cannot disable the terminal %s=True condition", t))
		}
	}
	if c.now.Failed < c.was.Failed {
		c.invalid("failed", c.now.Failed, "cannot decrease the failed counter")
	}
	spec := &c.job.Spec
	scalable := Indexed(spec) && ptr.Equal(spec.Completions, spec.Parallelism)
	if c.now.Succeeded < c.was.Succeeded && !scalable {
		c.invalid("succeeded", c.now.Succeeded, "cannot decrease the succeeded counter")
	}
	if end := c.now.CompletionTime; end != nil && c.was.CompletionTime != nil && !ptr.Equal(end, c.was.CompletionTime) {
		c.invalid("completionTime", end, "field is immutable")
	}
	resuming := c.wasTrue(batchv1.JobSuspended) && slices.ContainsFunc(c.now.Conditions, func(is batchv1.JobCondition) bool {
		return is.Type == batchv1.JobSuspended && is.Status == corev1.ConditionFalse
	})
	startChanged := c.was.StartTime != nil && !ptr.Equal(c.now.StartTime, c.was.StartTime)
	if startChanged && !resuming && !ptr.Deref(spec.Suspend, false) {
		c.invalid("startTime", c.now.StartTime, "field is immutable for unsuspended job once set")
	}
	if c.wasTrue(batchv1.JobSuccessCriteriaMet) && !c.criteriaMet {
		c.contradiction("cannot disable the SuccessCriteriaMet=True condition")
	}
	if c.wasTrue(batchv1.JobComplete) && !c.wasTrue(batchv1.JobSuccessCriteriaMet) && c.criteriaMet {
		c.contradiction("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
	}
}
