package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilduration "k8s.io/apimachinery/pkg/util/duration"

	"github.com/sampan-batch/sampan/internal/kind"
)

// result is what `sampan run -o json` prints.
type result struct {
	// Status is Complete when every Job is, Failed when one failed, Interrupted
	// or TimedOut when not all came to their end.
	Status   string      `json:"status"`
	ExitCode int         `json:"exitCode"`
	Jobs     []jobResult `json:"jobs"`
}

type jobResult struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Status is Complete, Failed, Deleted, or Stopped when the run ended before
	// the Job had.
	Status          string       `json:"status"`
	Reason          string       `json:"reason,omitempty"`
	Message         string       `json:"message,omitempty"`
	Completions     *int32       `json:"completions,omitempty"`
	Succeeded       int32        `json:"succeeded"`
	Failed          int32        `json:"failed"`
	StartTime       *metav1.Time `json:"startTime,omitempty"`
	EndTime         *metav1.Time `json:"endTime,omitempty"`
	DurationSeconds float64      `json:"durationSeconds"`
}

// results returns how each Job ended, in the order of their creation.
func (f *follower) results() []jobResult {
	var all []jobResult
	for _, j := range f.sorted() {
		all = append(all, resultOf(j))
	}
	return all
}

func resultOf(j *followed) jobResult {
	job := j.job
	r := jobResult{
		Namespace: job.Namespace, Name: job.Name, Status: "Running",
		Completions: job.Spec.Completions, Succeeded: job.Status.Succeeded, Failed: job.Status.Failed,
		StartTime: job.Status.StartTime,
	}
	if j.gone {
		r.Status = "Deleted"
	}
	if c := kind.JobEnd(job); c != nil {
		r.Status, r.Reason, r.Message, r.EndTime = string(c.Type), c.Reason, c.Message, c.LastTransitionTime.DeepCopy()
	}
	if r.StartTime != nil && r.EndTime != nil {
		r.DurationSeconds = r.EndTime.Sub(r.StartTime.Time).Seconds()
	}
	return r
}

// stop says that the run ended before the Job had.
func (r *jobResult) stop(now time.Time) {
	r.Status = "Stopped"
	if r.StartTime != nil {
		r.DurationSeconds = now.Sub(r.StartTime.Time).Round(time.Second).Seconds()
	}
}

// summary is the closing table.
func summary(jobs []jobResult) string {
	namespaces := map[string]bool{}
	for _, j := range jobs {
		namespaces[j.Namespace] = true
	}
	head := []string{"JOB", "STATUS", "COMPLETIONS", "FAILED", "DURATION"}
	if len(namespaces) > 1 {
		head = append([]string{"NAMESPACE"}, head...)
	}
	rows := [][]string{head}
	for _, j := range jobs {
		status := j.Status
		if j.Status == string(batchv1.JobFailed) && j.Reason != "" {
			status += " (" + j.Reason + ")"
		}
		row := []string{j.Name, status, completions(j.Succeeded, j.Completions), strconv.Itoa(int(j.Failed)),
			duration(time.Duration(j.DurationSeconds * float64(time.Second)))}
		if len(namespaces) > 1 {
			row = append([]string{j.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// progress is the status line of a Job, without the time.
func progress(j *followed) string {
	s := j.job.Status
	line := fmt.Sprintf("job/%s  %s succeeded, %d active, %d failed",
		j.job.Name, completions(s.Succeeded, j.job.Spec.Completions), s.Active, s.Failed)
	switch {
	case j.ended:
		line += "  " + resultOf(j).Status
	case j.job.Spec.Suspend != nil && *j.job.Spec.Suspend:
		line += "  suspended"
	}
	return line
}

func completions(succeeded int32, want *int32) string {
	if want == nil {
		return strconv.Itoa(int(succeeded))
	}
	return fmt.Sprintf("%d/%d", succeeded, *want)
}

func duration(d time.Duration) string { return utilduration.HumanDuration(d) }

func compareNames(a, b metav1.Object) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}
