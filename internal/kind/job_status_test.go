package kind

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func later(d time.Duration) *metav1.Time {
	t := metav1.NewTime(testTime.Add(d))
	return &t
}

func set(job *batchv1.Job, types ...batchv1.JobConditionType) {
	for _, t := range types {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: t, Status: corev1.ConditionTrue})
	}
}

func running(job *batchv1.Job) {
	job.Status.StartTime = &testTime
	job.Status.Active = 1
}

func succeeded(job *batchv1.Job) {
	job.Status.StartTime, job.Status.CompletionTime = &testTime, later(time.Minute)
	job.Status.Active, job.Status.Succeeded = 0, 1
	set(job, batchv1.JobSuccessCriteriaMet, batchv1.JobComplete)
}

func failed(job *batchv1.Job) {
	job.Status.StartTime = &testTime
	job.Status.Active, job.Status.Failed = 0, 7
	set(job, batchv1.JobFailureTarget, batchv1.JobFailed)
}

func TestJobStatusAllowed(t *testing.T) {
	t.Parallel()
	for _, test := range []jobChange{
		{name: "started", change: running},
		{name: "succeeded", before: running, change: succeeded},
		{name: "failed", before: running, change: failed},
		{name: "suspended", before: func(job *batchv1.Job) { running(job); suspended(job) }, change: func(job *batchv1.Job) {
			job.Status.StartTime, job.Status.Active = nil, 0
			set(job, batchv1.JobSuspended)
		}},
		{name: "resumed", before: func(job *batchv1.Job) { set(job, batchv1.JobSuspended); job.Status.StartTime = &testTime },
			change: func(job *batchv1.Job) {
				job.Status.Conditions[0].Status = corev1.ConditionFalse
				job.Status.StartTime = later(time.Hour)
			}},
		{name: "nothing to do, and suspended", before: func(job *batchv1.Job) {
			suspended(job)
			job.Spec.Completions = ptr.To[int32](0)
		}, change: func(job *batchv1.Job) {
			job.Status.CompletionTime = later(0)
			set(job, batchv1.JobSuccessCriteriaMet, batchv1.JobComplete)
		}},
		{name: "an unrelated change of a strange status", before: func(job *batchv1.Job) {
			job.Status.Active = 2
			set(job, batchv1.JobComplete)
		}, change: func(job *batchv1.Job) { job.Status.Ready = ptr.To[int32](0) }},
		{name: "indexes", manifest: indexedJob, before: running, change: func(job *batchv1.Job) {
			job.Status.CompletedIndexes, job.Status.FailedIndexes = "0,2-3", ptr.To("1")
		}},
		{name: "an Indexed Job that shrank", manifest: indexedJob,
			before: func(job *batchv1.Job) { running(job); job.Status.Succeeded = 3 },
			change: func(job *batchv1.Job) { job.Status.Succeeded = 2 }},
	} {
		test.run(t, Job().Status.Validate)
	}
}

func TestJobStatusRefused(t *testing.T) {
	t.Parallel()
	const conditions = "status.conditions: Invalid value: "
	for _, test := range []jobChange{
		{name: "negative", change: func(job *batchv1.Job) {
			job.Status.Active, job.Status.Ready = -1, ptr.To[int32](-1)
		}, want: []string{
			"status.active: Invalid value: must be greater than or equal to 0",
			"status.ready: Invalid value: must be greater than or equal to 0",
		}},
		{name: "uncounted twice", before: running, change: func(job *batchv1.Job) {
			job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{
				Succeeded: []types.UID{"a", ""}, Failed: []types.UID{"b", "a"}}
		}, want: []string{
			"status.uncountedTerminatedPods.succeeded[1]: Invalid value: must not be empty",
			"status.uncountedTerminatedPods.failed[1]: Duplicate value",
		}},
		{name: "complete and failed", before: running, change: func(job *batchv1.Job) { succeeded(job); failed(job) }, want: []string{
			conditions + "cannot set Complete=True and Failed=true conditions",
			conditions + "cannot set Complete=True and FailureTarget=true conditions",
			conditions + "cannot set SuccessCriteriaMet=True and Failed=true conditions",
			conditions + "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
		}},
		{name: "complete at once", before: running, change: func(job *batchv1.Job) {
			job.Status.Active = 0
			set(job, batchv1.JobComplete)
		}, want: []string{
			"status.completionTime: Required value: completionTime is required for Complete jobs",
			conditions + "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
		}},
		{name: "failed at once", before: running, change: func(job *batchv1.Job) { set(job, batchv1.JobFailed) }, want: []string{
			conditions + "cannot set Failed=True condition without the FailureTarget=true condition",
			"status.active: Invalid value: active>0 is invalid for finished job",
		}},
		{name: "an end without success", before: running, change: func(job *batchv1.Job) { job.Status.CompletionTime = later(0) },
			want: []string{"status.completionTime: Invalid value: cannot set completionTime when there is no Complete=True condition"}},
		{name: "an end before the start", before: running, change: func(job *batchv1.Job) {
			succeeded(job)
			job.Status.CompletionTime = later(-time.Second)
		}, want: []string{"status.completionTime: Invalid value: must be equal to or after `startTime`"}},
		{name: "finished, with all sorts left", change: func(job *batchv1.Job) {
			failed(job)
			job.Status.StartTime, job.Status.Terminating = nil, ptr.To[int32](1)
			job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Failed: []types.UID{"a"}}
		}, want: []string{
			"status.startTime: Required value: startTime is required for finished job",
			"status.uncountedTerminatedPods: Invalid value: must be empty for finished job",
			"status.terminating: Invalid value: terminating>0 is invalid for finished job",
		}},
		{name: "indexes that cannot be", manifest: indexedJob, before: running, change: func(job *batchv1.Job) {
			job.Status.CompletedIndexes, job.Status.FailedIndexes = "4", ptr.To("2,1")
		}, want: []string{
			`status.completedIndexes: Invalid value: error parsing completedIndexes: too large index: "4"`,
			"status.failedIndexes: Invalid value: error parsing failedIndexes: non-increasing order, previous: 2, current: 1",
		}},
		{name: "indexes of two minds", manifest: indexedJob, before: running, change: func(job *batchv1.Job) {
			job.Status.CompletedIndexes, job.Status.FailedIndexes = "0-2", ptr.To("2-3")
		}, want: []string{"status.failedIndexes: Invalid value: failedIndexes and completedIndexes overlap at index: 2"}},
		{name: "indexes of a Job without", before: running, change: func(job *batchv1.Job) {
			job.Status.CompletedIndexes, job.Status.FailedIndexes = "0", ptr.To("")
		}, want: []string{
			"status.completedIndexes: Invalid value: cannot set non-empty completedIndexes when non-indexed completion mode",
			"status.failedIndexes: Invalid value: cannot set non-null failedIndexes when backoffLimitPerIndex is null",
		}},
		{name: "less than none active", change: func(job *batchv1.Job) { job.Status.Active = -1 },
			want: []string{"status.active: Invalid value: must be greater than or equal to 0"}},
		{name: "more ready than active", before: running, change: func(job *batchv1.Job) { job.Status.Ready = ptr.To[int32](2) },
			want: []string{"status.ready: Invalid value: cannot set more ready pods than active"}},
		{name: "complete again", before: succeeded, change: func(job *batchv1.Job) {
			job.Status.CompletionTime, job.Status.Succeeded = later(time.Hour), 0
		}, want: []string{
			"status.succeeded: Invalid value: cannot decrease the succeeded counter",
			"status.completionTime: Invalid value: field is immutable",
		}},
		{name: "no longer complete", before: succeeded, change: func(job *batchv1.Job) {
			job.Status.Conditions, job.Status.CompletionTime = nil, nil
		}, want: []string{
			conditions + "cannot disable the terminal Complete=True condition",
			conditions + "cannot disable the SuccessCriteriaMet=True condition",
		}},
		{name: "no longer failed", before: failed, change: func(job *batchv1.Job) {
			job.Status.Conditions, job.Status.Failed = nil, 6
		}, want: []string{
			conditions + "cannot disable the terminal Failed=True condition",
			conditions + "cannot disable the terminal FailureTarget=True condition",
			"status.failed: Invalid value: cannot decrease the failed counter",
		}},
		{name: "started again", before: running, change: func(job *batchv1.Job) { job.Status.StartTime = later(time.Hour) },
			want: []string{"status.startTime: Invalid value: field is immutable for unsuspended job once set"}},
		{name: "criteria met after the end", before: func(job *batchv1.Job) {
			succeeded(job)
			job.Status.Conditions = job.Status.Conditions[1:]
		}, change: func(job *batchv1.Job) { set(job, batchv1.JobSuccessCriteriaMet) },
			want: []string{conditions + "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"}},
		{name: "complete against the success policy", manifest: indexedJob, before: func(job *batchv1.Job) {
			running(job)
			set(job, batchv1.JobComplete)
		}, change: func(job *batchv1.Job) { job.Status.Succeeded = 1 }, want: []string{
			conditions + "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
		}},
	} {
		test.run(t, Job().Status.Validate)
	}
}

func TestCountIndexes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want int32
		err  string
	}{
		{"", 0, ""},
		{"0", 1, ""},
		{"0,2-4,9", 5, ""},
		{"10", 0, `too large index: "10"`},
		{"3-10", 0, `too large index: "10"`},
		{"99999999999999999999", 0, `cannot convert string to integer for index: "99999999999999999999"`},
		{"1,1", 0, "non-increasing order, previous: 1, current: 1"},
		{"4-2", 0, "non-increasing order, previous: 4, current: 2"},
		{"2-2", 0, "non-increasing order, previous: 2, current: 2"},
		{"1-2-3", 0, `the fragment "1-2-3" violates the requirement that an index interval can have at most two parts separated by '-'`},
		{"-1", 0, `cannot convert string to integer for index: ""`},
		{"1, 2", 0, `cannot convert string to integer for index: " 2"`},
		{"1,", 0, `cannot convert string to integer for index: ""`},
	} {
		got, err := countIndexes(test.text, 10)
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%q: got %d, %v; want %d", test.text, got, err, test.want)
		}
		if test.err != "" && (err == nil || err.Error() != test.err) {
			t.Errorf("%q: got %v; want %s", test.text, err, test.err)
		}
	}
}

// FuzzIndexes: what countIndexes takes is a rising list of as many indexes, and
// it has all of them in common with itself.
func FuzzIndexes(f *testing.F) {
	for _, seed := range []string{"", "0", "1,3-5", "5-3", "1-2-3", "x", "0-9", "-1", "0,,1"} {
		f.Add(seed, int32(10))
	}
	f.Fuzz(func(t *testing.T, text string, completions int32) {
		count, err := countIndexes(text, completions)
		if err != nil {
			return
		}
		var total int32
		last := int32(-1)
		for _, run := range intervals(text, completions) {
			if run.first <= last || run.last < run.first || run.last >= completions {
				t.Fatalf("%q: interval %v after %d", text, run, last)
			}
			total += run.last - run.first + 1
			last = run.last
		}
		if text != "" && total != count {
			t.Fatalf("%q: %d indexes, counted %d", text, total, count)
		}
		if first, ok := firstCommonIndex(text, text, completions); text != "" && (!ok || first != intervals(text, completions)[0].first) {
			t.Fatalf("%q: in common with itself: %d, %v", text, first, ok)
		}
	})
}
