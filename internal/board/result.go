package board

import (
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Result is what became of a run; scripts rely on its JSON form.
type Result struct {
	// Status is Complete when every Job and Pod is, Failed when one failed or can never
	// go on, Interrupted or TimedOut when not all came to their end.
	Status   string `json:"status"`
	ExitCode int    `json:"exitCode"`
	// Reason says in a sentence why a run ended that could not go on.
	Reason string       `json:"reason,omitempty"`
	Jobs   []WorkResult `json:"jobs"`
	// StartTime is when the run began, and Seconds how long it took, all in all.
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`
	Seconds   float64           `json:"durationSeconds"`
}

// WorkResult is what became of a Job, or of a Pod alone.
type WorkResult struct {
	Kind      string `json:"kind"` // Job or Pod
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Status is Complete, Failed, Deleted, Stuck when it could not go on, Stopped when the
	// run ended before it had, Suspended when another run can go on with it, or NotStarted
	// when its turn had not come.
	Status           string `json:"status"`
	Reason           string `json:"reason,omitempty"`
	Message          string `json:"message,omitempty"`
	Completions      *int32 `json:"completions,omitempty"`
	Succeeded        int32  `json:"succeeded"`
	Failed           int32  `json:"failed"`
	CompletedIndexes string `json:"completedIndexes,omitempty"`
	FailedIndexes    string `json:"failedIndexes,omitempty"`
	// The times are measured here, to the millisecond, where that can be: an API's have
	// whole seconds.
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`
	EndTime   *metav1.MicroTime `json:"endTime,omitempty"`
	Seconds   float64           `json:"durationSeconds"`
	// Pods are those that ended, in the order of their ends.
	Pods []*PodResult `json:"pods,omitempty"`
}

// cutShort is the status of a work that the run ended before it had.
const cutShort = "Stopped"

// NotStarted is the status of a work whose turn had not come.
const NotStarted = "NotStarted"

// Began is when the run did.
func (b *Board) Began() time.Time { return b.began }

// Seconds is how long the run has taken.
func (b *Board) Seconds(now time.Time) float64 { return seconds(now.Sub(b.began)) }

// Results returns how each work ended, in the order in which they were added.
func (b *Board) Results(now time.Time) []WorkResult {
	all := make([]WorkResult, 0, len(b.order))
	for _, w := range b.order {
		r := w.result(now)
		if r.Status == cutShort && !b.leaving { // how pods end that are told to says nothing
			r.Message = b.lacking(now, w)
		}
		all = append(all, r)
	}
	return all
}

func (w *work) result(now time.Time) WorkResult {
	w.settle()
	r := WorkResult{
		Kind: strings.ToUpper(w.kind[:1]) + w.kind[1:], Namespace: w.meta.Namespace, Name: w.meta.Name,
		Status: w.status, Reason: w.reason, Message: w.message, StartTime: milli(w.began), Pods: w.results,
	}
	end := now
	if w.ended() {
		end = w.end
		r.EndTime = milli(end)
	}
	switch {
	case w.ended():
	case w.began.IsZero():
		r.Status, r.StartTime = NotStarted, nil
		return r
	case w.job != nil && ptr.Deref(w.job.Spec.Suspend, false):
		r.Status = "Suspended"
	case w.hindered != "":
		r.Status, r.Message = "Stuck", w.hindered
	default:
		r.Status = cutShort
	}
	r.Seconds = seconds(end.Sub(w.began))
	if j := w.job; j != nil {
		r.Completions, r.Succeeded, r.Failed = j.Spec.Completions, j.Status.Succeeded, j.Status.Failed
		r.CompletedIndexes, r.FailedIndexes = j.Status.CompletedIndexes, ptr.Deref(j.Status.FailedIndexes, "")
		return r
	}
	switch w.status {
	case string(batchv1.JobComplete):
		r.Succeeded = 1
	case string(batchv1.JobFailed):
		r.Failed = 1
	}
	return r
}

// seconds rounds to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// milli is a time to the millisecond.
func milli(t time.Time) *metav1.MicroTime {
	return &metav1.MicroTime{Time: t.UTC().Truncate(time.Millisecond)}
}

// waitOf returns what a Job waits for before it tries again.
func waitOf(now time.Time, w *work) job.Outlook {
	pods := make([]*corev1.Pod, 0, len(w.pods))
	for _, p := range w.pods {
		pods = append(pods, counted(w.job, p.Pod))
	}
	return job.Look(now, w.job, pods)
}

// counted returns a pod as it is where the Job is seen as it is. Jobs and pods come by
// watches of their own: a pod that has ended, and is seen in a state from before the Job's,
// still has the finalizer that it lost as the Job counted it, and would count twice.
func counted(j *batchv1.Job, p *corev1.Pod) *corev1.Pod {
	if !kind.PodEnded(p) || !slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) {
		return p
	}
	if order, err := resourceversion.CompareResourceVersion(p.ResourceVersion, j.ResourceVersion); err != nil || order >= 0 {
		return p
	}
	released := *p
	released.Finalizers = nil
	return &released
}
