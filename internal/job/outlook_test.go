package job

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	pod := func(phase corev1.PodPhase, ago time.Duration, annotations ...string) *corev1.Pod {
		p := &corev1.Pod{Status: corev1.PodStatus{Phase: phase}}
		p.Annotations = map[string]string{}
		for i := 0; i < len(annotations); i += 2 {
			p.Annotations[annotations[i]] = annotations[i+1]
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-ago))},
		}}}
		return p
	}
	indexed := func(index, failures string, phase corev1.PodPhase, ago time.Duration) *corev1.Pod {
		return pod(phase, ago, batchv1.JobCompletionIndexAnnotation, index, batchv1.JobIndexFailureCountAnnotation, failures)
	}
	perIndex := func(completed string, pods ...*corev1.Pod) (*batchv1.Job, []*corev1.Pod) {
		j := &batchv1.Job{Spec: batchv1.JobSpec{
			CompletionMode: ptr.To(batchv1.IndexedCompletion), Completions: ptr.To[int32](5), BackoffLimitPerIndex: ptr.To[int32](2),
		}}
		j.Status.CompletedIndexes = completed
		return j, pods
	}
	plain := func(annotation string, pods ...*corev1.Pod) (*batchv1.Job, []*corev1.Pod) {
		j := &batchv1.Job{}
		if annotation != "" {
			j.Annotations = map[string]string{BackoffAnnotation: annotation}
		}
		return j, pods
	}
	expect := func(name string, j *batchv1.Job, pods []*corev1.Pod, until time.Duration, failures int32, indexes string) {
		t.Helper()
		w := Look(now, j, pods).Wait
		if w.Failures != failures || w.Indexes.String() != indexes || until == 0 != w.Until.IsZero() ||
			until != 0 && !w.Until.Equal(now.Add(until)) {
			t.Errorf("%s: got %+v (in %s)", name, w, w.Until.Sub(now))
		}
	}
	const s = time.Second
	j, pods := plain("2 2026-03-01T11:59:50Z waiting")
	expect("as written down", j, pods, 10*s, 2, "")
	j, pods = plain("1 2026-03-01T11:59:50Z")
	expect("over", j, pods, 0, 0, "")
	j, pods = plain("", pod(corev1.PodFailed, 40*s), pod(corev1.PodFailed, 15*s))
	expect("made out from the pods", j, pods, 5*s, 2, "")
	j, pods = plain("", pod(corev1.PodFailed, 40*s), pod(corev1.PodSucceeded, 30*s), pod(corev1.PodFailed, 3*s))
	expect("a success ends the row", j, pods, 7*s, 1, "")
	j, pods = perIndex("0", indexed("1", "0", corev1.PodFailed, 4*s), indexed("2", "1", corev1.PodFailed, 1*s), indexed("0", "0", corev1.PodFailed, 1*s))
	expect("index by index", j, pods, 6*s, 0, "1,2")
	j, pods = perIndex("", indexed("1", "0", corev1.PodFailed, 4*s), indexed("1", "1", corev1.PodRunning, 0), indexed("3", "2", corev1.PodFailed, 1*s))
	expect("retried already, and failed for good", j, pods, 0, 0, "")
	j, pods = plain("2 2026-03-01T11:59:50Z waiting")
	j.Spec.Suspend = ptr.To(true)
	expect("suspended", j, pods, 0, 0, "")
}

// TestLook: what is said of a Job counts the pods that its status does not count yet.
func TestLook(t *testing.T) {
	t.Parallel()
	onFailure := func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }
	afterEnd := func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed) }
	limit := func(n int32) func(*batchv1.Job) { return func(j *batchv1.Job) { j.Spec.BackoffLimit = &n } }
	restarted := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
	}
	deadline := func(j *batchv1.Job) { j.Spec.ActiveDeadlineSeconds = ptr.To[int64](60) }
	for _, c := range []struct {
		name           string
		job            *batchv1.Job
		pods           []*corev1.Pod
		missing, later int
		failures       int32
		restarts       int64
		verdict        string
	}{
		{"new", newJob(pods(2, 5)), nil, 2, 3, 0, 0, ""},
		{"one runs", newJob(pods(2, 5), started(1)), []*corev1.Pod{newPod("a")}, 1, 3, 0, 0, ""},
		{"one has succeeded, uncounted", newJob(pods(2, 5), started(1)), []*corev1.Pod{newPod("a", exited(0, 0))}, 2, 2, 0, 0, ""},
		{"one has failed, uncounted", newJob(pods(2, 5), started(1)), []*corev1.Pod{newPod("a", exited(0, 1))}, 2, 3, 1, 0, ""},
		{"one too many has failed", newJob(pods(2, 5), started(1), limit(0)), []*corev1.Pod{newPod("a", exited(0, 1))}, 2, 3, 1, 0, "BackoffLimitExceeded"},
		{"restarts, one of them of a pod that terminates", newJob(pods(2, 5), onFailure, afterEnd, limit(3), started(1)),
			[]*corev1.Pod{newPod("a", restarted(1)), newPod("b", restarted(1), deleted(0))}, 1, 3, 0, 2, ""},
		{"one restart more", newJob(pods(2, 5), onFailure, afterEnd, limit(3), started(1)),
			[]*corev1.Pod{newPod("a", restarted(1)), newPod("b", restarted(2), deleted(0))}, 1, 3, 0, 3, "BackoffLimitExceeded"},
		{"past the deadline", newJob(deadline, started(1)), []*corev1.Pod{newPod("a")}, 0, 0, 0, 0, "DeadlineExceeded"},
		{"a work queue with a success", newJob(workQueue(3), started(2)), []*corev1.Pod{newPod("a", exited(0, 0)), newPod("b")}, 0, 0, 0, 0, ""},
		{"an index is lost", newJob(perIndexLimit(0), pods(3, 4), started(2), done("0", "")), []*corev1.Pod{indexPod(1, exited(0, 1)), indexPod(2)}, 1, 0, 1, 0, ""},
	} {
		o := Look(t0.Add(time.Minute), c.job, c.pods)
		if o.Missing != c.missing || o.Later != c.later || o.Limits.Failures != c.failures || o.Limits.Restarts != c.restarts || o.Verdict.Reason != c.verdict || o.Verdict.Recorded {
			t.Errorf("%s: got %d missing, %d later, %+v, %+v", c.name, o.Missing, o.Later, o.Limits, o.Verdict)
		}
	}
}
