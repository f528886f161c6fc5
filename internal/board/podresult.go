package board

import (
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/explain"
	"github.com/sampan-batch/sampan/internal/kind"
)

// PodResult is how a pod ended.
type PodResult struct {
	work *work

	Name  string `json:"name"`
	Index *int   `json:"index,omitempty"`
	// Attempt says which try of its index it was, from 1 on, or of its Job if that is to
	// have one pod. Containers that were started again count as tries.
	Attempt int    `json:"attempt"`
	Status  string `json:"status"` // Succeeded or Failed
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// StoppedByJob: the Job did not need it any more, because it succeeded or failed without
	// it, or was suspended. How it ended then says nothing of its work.
	StoppedByJob bool `json:"stoppedByJob,omitempty"`
	// ExitCode is that of the first container that failed; nil if none had an end.
	ExitCode *int32 `json:"exitCode,omitempty"`
	// From the start of the first container to the end of the last. A pod of which none
	// started has the end that was seen.
	StartTime  *metav1.MicroTime `json:"startTime,omitempty"`
	EndTime    *metav1.MicroTime `json:"endTime,omitempty"`
	Seconds    float64           `json:"durationSeconds"`
	Containers []ContainerResult `json:"containers"`
}

// ContainerResult is how the last life of a container ended.
type ContainerResult struct {
	Name     string `json:"name"`
	ExitCode int32  `json:"exitCode"`
	// Signal is the number of the one that ended it, as the exit code tells, else 0.
	Signal    int32             `json:"signal,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Message   string            `json:"message,omitempty"`
	Restarts  int32             `json:"restarts"`
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`
	EndTime   *metav1.MicroTime `json:"endTime,omitempty"`
	Seconds   float64           `json:"durationSeconds"`
	// OutputBytes is how much it wrote, if its log was read.
	OutputBytes int64 `json:"outputBytes,omitempty"`
	// LastLines are the last that it wrote, if it failed.
	LastLines []string `json:"lastLines,omitempty"`

	how      string
	measured bool // the times are, here
}

// resultOf takes down how a pod ended.
func (b *Board) resultOf(now time.Time, p *pod) *PodResult {
	r := &PodResult{work: p.work, Name: p.Name, Status: string(p.Status.Phase), Reason: p.Status.Reason, Message: p.Status.Message, EndTime: milli(now)}
	r.StoppedByJob = p.Status.Phase == corev1.PodFailed && b.Stopped(p.Pod)
	if i, indexed := kind.CompletionIndex(p.Pod); indexed {
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

// Stopped reports whether the Job of a pod ends it, and not somebody else or something that
// went wrong. Where others may delete pods, a Job does so only once it is decided.
func (b *Board) Stopped(p *corev1.Pod) bool {
	w := b.workOf(p)
	if w == nil || w.job == nil || p.DeletionTimestamp == nil {
		return false
	}
	if c := kind.PodCondition(p, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue {
		return false
	}
	decided := []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget}
	return b.closed || kind.JobCondition(&w.job.Status, decided...) != nil
}

// Culprit is the pod that tells best why a work failed: the last that did by itself, else the
// last that was stopped; nil if no pod failed.
func Culprit(pods []*PodResult) *PodResult {
	var stopped *PodResult
	for _, p := range slices.Backward(pods) {
		switch {
		case p.Status != string(corev1.PodFailed):
		case !p.StoppedByJob:
			return p
		case stopped == nil:
			stopped = p
		}
	}
	return stopped
}

// Work names the Job or Pod that a pod belongs to.
func (r *PodResult) Work() (namespace, name string) { return r.work.meta.Namespace, r.work.meta.Name }

// PodsEnded returns the pods that have ended since it was asked last, in the order of
// their ends. As with News, how long they ran is waited for, unless all are wanted.
func (b *Board) PodsEnded(now time.Time, all bool) []*PodResult {
	n := 0
	for n < len(b.over) && (all || now.Sub(b.over[n].at) >= moment || b.over[n].measured()) {
		n++
	}
	ended := make([]*PodResult, n)
	for i, o := range b.over[:n] {
		o.sum()
		ended[i] = o.PodResult
	}
	b.over = b.over[n:]
	return ended
}

// ending is a pod that ended at a moment.
type ending struct {
	*PodResult
	at time.Time
}

// measured: all is known of the pod that will be.
func (r *PodResult) measured() bool {
	return !slices.ContainsFunc(r.Containers, func(c ContainerResult) bool { return !c.measured })
}

// sum says of the pod what its containers say.
func (r *PodResult) sum() {
	var start, end *metav1.MicroTime
	for i := range r.Containers {
		c := &r.Containers[i]
		if c.StartTime != nil && (start == nil || c.StartTime.Before(start)) {
			start = c.StartTime
		}
		if c.EndTime != nil && (end == nil || end.Before(c.EndTime)) {
			end = c.EndTime
		}
		if r.ExitCode == nil || *r.ExitCode == 0 {
			r.ExitCode = &c.ExitCode
		}
	}
	if start != nil && end != nil {
		r.StartTime, r.EndTime, r.Seconds = start, end, seconds(end.Sub(start.Time))
	}
}

// settle says of each pod that has ended all that is known by now. Of a Job that was
// there before the run their order comes from an API's list, and is corrected.
func (w *work) settle() {
	for _, r := range w.results {
		r.sum()
	}
	slices.SortStableFunc(w.results, func(a, b *PodResult) int { return a.EndTime.Compare(b.EndTime.Time) })
	tries := attempts{}
	for _, r := range w.results {
		r.Attempt = tries.next(w, r)
	}
}

// attempts counts the tries of each index of a Job that is not done yet; 0 stands for the
// Job if it has no indexes.
type attempts map[int]int

// next returns which try a pod was that has ended.
func (a attempts) next(w *work, r *PodResult) int {
	tries := 1
	for _, c := range r.Containers {
		tries = max(tries, int(c.Restarts)+1)
	}
	if r.Index == nil && (w.job == nil || ptr.Deref(w.job.Spec.Completions, 0) != 1) {
		return tries // its pods do not stand in for each other
	}
	i := ptr.Deref(r.Index, 0)
	tries += a[i]
	if a[i] = tries; r.Status == string(corev1.PodSucceeded) {
		delete(a, i)
	}
	return tries
}

func containerResult(s *corev1.ContainerStatus, t *corev1.ContainerStateTerminated) ContainerResult {
	c := ContainerResult{Name: s.Name, ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: t.Message, Restarts: s.RestartCount, how: explain.ExitOf(t)}
	if n := t.ExitCode - 128; c.Signal == 0 && n > 0 && n <= lastSignal {
		c.Signal = n
	}
	if !t.StartedAt.IsZero() {
		c.StartTime, c.EndTime = milli(t.StartedAt.Time), milli(t.FinishedAt.Time)
		c.Seconds = seconds(t.FinishedAt.Sub(t.StartedAt.Time))
	}
	return c
}

// lastSignal is the last that Linux has.
const lastSignal = 64

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
		c.StartTime, c.EndTime = milli(life.Began), milli(life.Ended)
	}
	c.OutputBytes = life.Bytes
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

// inWords names the pod, and says How.
func (r *PodResult) inWords() string { return "pod " + r.Name + ": " + r.How() }

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

// LastLines are the last lines of the container that failed.
func (r *PodResult) LastLines() []string {
	if c := r.worst(); c != nil {
		return c.LastLines
	}
	return nil
}
