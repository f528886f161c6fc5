package board

import (
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/explain"
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
	// Seconds is how long it took, all in all.
	Seconds float64 `json:"durationSeconds"`
}

// WorkResult is what became of a Job, or of a Pod alone.
type WorkResult struct {
	Kind      string `json:"kind"` // Job or Pod
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Status is Complete, Failed, Deleted, Stuck when it could not go on, Stopped when the
	// run ended before it had, Suspended when another run can go on with it, or NotStarted
	// when its turn had not come.
	Status        string       `json:"status"`
	Reason        string       `json:"reason,omitempty"`
	Message       string       `json:"message,omitempty"`
	Completions   *int32       `json:"completions,omitempty"`
	Succeeded     int32        `json:"succeeded"`
	Failed        int32        `json:"failed"`
	FailedIndexes string       `json:"failedIndexes,omitempty"`
	StartTime     *metav1.Time `json:"startTime,omitempty"`
	EndTime       *metav1.Time `json:"endTime,omitempty"`
	// Seconds is measured here, to the millisecond; an API's times have whole seconds.
	Seconds float64 `json:"durationSeconds"`
	// Pods are those that ended, in the order of their ends.
	Pods []*PodResult `json:"pods,omitempty"`
}

// NotStarted is the status of a work whose turn had not come.
const NotStarted = "NotStarted"

// PodResult is how a pod ended.
type PodResult struct {
	uid  types.UID
	work *work

	Name       string            `json:"name"`
	Index      *int              `json:"index,omitempty"`
	Status     string            `json:"status"` // Succeeded or Failed
	Reason     string            `json:"reason,omitempty"`
	Message    string            `json:"message,omitempty"`
	Containers []ContainerResult `json:"containers"`
}

// ContainerResult is how the last life of a container ended.
type ContainerResult struct {
	Name      string       `json:"name"`
	ExitCode  int32        `json:"exitCode"`
	Reason    string       `json:"reason,omitempty"`
	Message   string       `json:"message,omitempty"`
	Restarts  int32        `json:"restarts"`
	StartTime *metav1.Time `json:"startTime,omitempty"`
	EndTime   *metav1.Time `json:"endTime,omitempty"`
	Seconds   float64      `json:"durationSeconds"`
	// LastLines are the last that it wrote, if it failed.
	LastLines []string `json:"lastLines,omitempty"`

	how      string
	measured bool // Seconds is, here
}

// Seconds is how long the run has taken.
func (b *Board) Seconds(now time.Time) float64 { return seconds(now.Sub(b.began)) }

// Results returns how each work ended, in the order in which they were added.
func (b *Board) Results(now time.Time) []WorkResult {
	all := make([]WorkResult, 0, len(b.order))
	for _, w := range b.order {
		all = append(all, w.result(now))
	}
	return all
}

func (w *work) result(now time.Time) WorkResult {
	r := WorkResult{
		Kind: strings.ToUpper(w.kind[:1]) + w.kind[1:], Namespace: w.meta.Namespace, Name: w.meta.Name,
		Status: w.status, Reason: w.reason, Message: w.message, Pods: w.results,
	}
	end := now
	if w.ended() {
		end = w.end
		r.EndTime = &metav1.Time{Time: end.Truncate(time.Second)}
	}
	switch {
	case w.ended():
	case w.began.IsZero():
		r.Status = NotStarted
		return r
	case w.job != nil && ptr.Deref(w.job.Spec.Suspend, false):
		r.Status = "Suspended"
	case w.hindered != "":
		r.Status, r.Message = "Stuck", w.hindered
	default:
		r.Status = "Stopped"
	}
	r.Seconds = seconds(end.Sub(w.began))
	if j := w.job; j != nil {
		r.Completions, r.Succeeded, r.Failed = j.Spec.Completions, j.Status.Succeeded, j.Status.Failed
		r.FailedIndexes, r.StartTime = ptr.Deref(j.Status.FailedIndexes, ""), j.Status.StartTime
		if c := kind.JobEnd(j); c != nil {
			r.EndTime = c.LastTransitionTime.DeepCopy()
		}
		return r
	}
	for _, p := range w.results {
		if p.Status == string(corev1.PodSucceeded) {
			r.Succeeded = 1
		} else {
			r.Failed = 1
		}
	}
	return r
}

// seconds rounds to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// resultOf takes down how a pod ended.
func (b *Board) resultOf(p *pod) *PodResult {
	r := &PodResult{uid: p.UID, work: p.work, Name: p.Name, Status: string(p.Status.Phase), Reason: p.Status.Reason, Message: p.Status.Message}
	if i, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation]); err == nil {
		r.Index = &i
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil {
			r.Containers = append(r.Containers, containerResult(&s, t))
		}
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		b.credit(p.UID, int(c.Restarts), c)
	}
	return r
}

func containerResult(s *corev1.ContainerStatus, t *corev1.ContainerStateTerminated) ContainerResult {
	c := ContainerResult{Name: s.Name, ExitCode: t.ExitCode, Reason: t.Reason, Message: t.Message, Restarts: s.RestartCount, how: explain.ExitOf(t)}
	if !t.StartedAt.IsZero() {
		c.StartTime, c.EndTime = t.StartedAt.DeepCopy(), t.FinishedAt.DeepCopy()
		c.Seconds = seconds(t.FinishedAt.Sub(t.StartedAt.Time))
	}
	return c
}

// credit gives a result the life of its container, now or when it becomes known.
func (b *Board) credit(pod types.UID, attempt int, c *ContainerResult) {
	id := lifeID{pod, c.Name, attempt}
	if life, known := b.lives[id]; known {
		delete(b.lives, id)
		c.take(life)
		return
	}
	b.owed[id] = c
}

// take takes over what the life of the container tells.
func (c *ContainerResult) take(life Life) {
	if !life.Ended.IsZero() {
		c.Seconds, c.measured = seconds(life.Ended.Sub(life.Began)), true
	}
	if c.ExitCode != 0 {
		c.LastLines = life.Last
	}
}

// worst is the container that tells why a pod failed: the first that did.
func (r *PodResult) worst() *ContainerResult {
	for i := range r.Containers {
		if c := &r.Containers[i]; c.ExitCode != 0 {
			return c
		}
	}
	return nil
}

// How says in a phrase how a pod failed: "main exited with 3 after 0.2s".
func (r *PodResult) How() string {
	c := r.worst()
	if c == nil {
		if r.Reason == "" {
			return "failed"
		}
		return strings.TrimSuffix(r.Reason+": "+explain.FirstLine(r.Message), ": ")
	}
	text := c.Name + " " + c.how
	if c.Seconds > 0 || c.measured {
		text += " after " + Duration(time.Duration(c.Seconds*float64(time.Second)))
	}
	if r.Reason != "" {
		text += " (" + r.Reason + ")"
	}
	return text
}

// LastWords are the last line of the container that failed, "" if it wrote none.
func (r *PodResult) LastWords() string {
	if c := r.worst(); c != nil {
		for _, line := range slices.Backward(c.LastLines) {
			if strings.TrimSpace(line) != "" {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// waitOf returns what a Job waits for before it tries again.
func waitOf(now time.Time, w *work) job.Outlook {
	pods := make([]*corev1.Pod, 0, len(w.pods))
	for _, p := range w.pods {
		pods = append(pods, p.Pod)
	}
	return job.Look(now, w.job, pods)
}

// LastLines are the last lines of the container that failed.
func (r *PodResult) LastLines() []string {
	if c := r.worst(); c != nil {
		return c.LastLines
	}
	return nil
}
