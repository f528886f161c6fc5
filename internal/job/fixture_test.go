package job

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// t0 is when everything starts.
var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

func at(d time.Duration) *metav1.Time { return ptr.To(metav1.NewTime(t0.Add(d))) }

// newJob returns the Job pi as the API would store it, then as edits make it.
func newJob(edits ...func(*batchv1.Job)) *batchv1.Job {
	labels := map[string]string{"batch.kubernetes.io/controller-uid": "job-uid", "batch.kubernetes.io/job-name": "pi"}
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pi", UID: "job-uid", ResourceVersion: "10", Generation: 1},
		Spec: batchv1.JobSpec{
			Parallelism: ptr.To[int32](1), Completions: ptr.To[int32](1), BackoffLimit: ptr.To[int32](6),
			Suspend: ptr.To(false), CompletionMode: ptr.To(batchv1.NonIndexedCompletion),
			PodReplacementPolicy: ptr.To(batchv1.TerminatingOrFailed),
			Selector:             &metav1.LabelSelector{MatchLabels: map[string]string{"batch.kubernetes.io/controller-uid": "job-uid"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					RestartPolicy: corev1.RestartPolicyNever,
					Containers:    []corev1.Container{{Name: "main", Image: "busybox"}},
				},
			},
		},
	}
	for _, edit := range edits {
		edit(j)
	}
	return j
}

func pods(parallelism, completions int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Spec.Parallelism, j.Spec.Completions = &parallelism, &completions
	}
}

func workQueue(parallelism int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Completions = &parallelism, nil }
}

func indexedJob(j *batchv1.Job) { j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion) }

func perIndexLimit(n int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		indexedJob(j)
		j.Spec.BackoffLimitPerIndex = &n
		j.Spec.BackoffLimit = ptr.To[int32](1<<31 - 1)
	}
}

// started is the status of a Job that has run since t0.
func started(active int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.StartTime, j.Status.Active = at(0), active
		j.Status.Ready, j.Status.Terminating = ptr.To[int32](0), ptr.To[int32](0)
		j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
}

// uncounted is the status that another controller leaves between two steps.
func uncounted(succeeded, failed types.UID) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{
			Succeeded: []types.UID{succeeded}, Failed: []types.UID{failed},
		}
	}
}

// newPod returns a running pod of the Job pi, then as edits make it.
func newPod(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	j := newJob()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "20",
			CreationTimestamp: *at(0), Labels: j.Spec.Template.Labels,
			Finalizers:      []string{batchv1.JobTrackingFinalizer},
			OwnerReferences: ownerOf(j).Make().OwnerReferences,
		},
		Spec:   corev1.PodSpec{NodeName: "node", TerminationGracePeriodSeconds: ptr.To[int64](30)},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func withIndex(i int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: strconv.Itoa(i)}
	}
}

func pending(p *corev1.Pod)   { p.Status.Phase, p.Spec.NodeName = corev1.PodPending, "" }
func untracked(p *corev1.Pod) { p.Finalizers = nil }
func orphan(p *corev1.Pod)    { p.OwnerReferences = nil; p.Finalizers = nil }
func isReady(p *corev1.Pod) {
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: *at(0)})
}

func deleted(after time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = at(after+30*time.Second), ptr.To[int64](30)
	}
}

func exited(after time.Duration, code int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodSucceeded
		if code != 0 {
			p.Status.Phase = corev1.PodFailed
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name:  "main",
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: *at(after)}},
		}}
	}
}

func failedBefore(n int) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(n) }
}

func state(j *batchv1.Job, pods ...*corev1.Pod) State {
	return State{Job: j, Pods: pods, PodKind: kind.Pod()}
}

// nextJob returns the Job as the set leaves it.
func nextJob(t *testing.T, s State, set change.Set) *batchv1.Job {
	t.Helper()
	for _, w := range set.Writes {
		if w.Key == jobKey(s.Job) {
			if w.Op != change.Update || w.Rev != 10 {
				t.Fatalf("the Job is written as %+v", w)
			}
			return w.Object.(*batchv1.Job)
		}
	}
	return s.Job
}

// summary spells the set's writes of pods: "+" created, "-" deleted or deletion
// begun, "~" written otherwise, and "!" when the tracking finalizer is gone.
func summary(set change.Set) []string {
	var out []string
	for _, w := range set.Writes {
		if w.Key.Resource != "pods" {
			continue
		}
		switch pod, _ := w.Object.(*corev1.Pod); {
		case w.Op == change.Create:
			out = append(out, "+"+pod.GenerateName)
		case w.Op == change.Delete:
			out = append(out, "-"+w.Key.Name)
		case pod.DeletionTimestamp != nil && !tracked(pod):
			out = append(out, "-"+w.Key.Name+"…")
		case tracked(pod):
			out = append(out, "~"+w.Key.Name)
		default:
			out = append(out, "!"+w.Key.Name)
		}
	}
	return out
}

func reasons(set change.Set) []string {
	var out []string
	for _, n := range set.Notes {
		out = append(out, n.Reason)
	}
	return out
}

func conditions(j *batchv1.Job) []string {
	var out []string
	for _, c := range j.Status.Conditions {
		text := string(c.Type)
		if c.Status != corev1.ConditionTrue {
			text += "=" + string(c.Status)
		}
		out = append(out, fmt.Sprintf("%s(%s)", text, c.Reason))
	}
	return out
}

// inIndex: the pod is one that the index kind.LivePods holds.
func inIndex(pod *corev1.Pod) bool {
	return !kind.PodEnded(pod) || tracked(pod) || pod.Labels[batchv1.ControllerUidLabel] != "job-uid"
}
