package explain

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
)

var agreeNow = time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)

// agreeJob returns a Job under way since ten minutes, with pods as they are asked for.
func agreeJob(policy corev1.RestartPolicy, limit int32) *batchv1.Job {
	labels := map[string]string{batchv1.ControllerUidLabel: "u-j"}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "j", UID: "u-j", CreationTimestamp: metav1.NewTime(agreeNow.Add(-time.Hour))},
		Spec: batchv1.JobSpec{
			Parallelism: ptr.To[int32](3), Completions: ptr.To[int32](6), BackoffLimit: &limit, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{RestartPolicy: policy}},
		},
		Status: batchv1.JobStatus{StartTime: ptr.To(metav1.NewTime(agreeNow.Add(-10 * time.Minute)))},
	}
}

func agreePod(j *batchv1.Job, n int, phase corev1.PodPhase, restarts int32, deleted bool) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: fmt.Sprint("j-", n), UID: "u", Labels: j.Spec.Template.Labels, Finalizers: []string{batchv1.JobTrackingFinalizer},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Job", Name: "j", UID: "u-j", Controller: ptr.To(true)}},
		},
		Spec: corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "c", RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}},
	}
	if deleted {
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(agreeNow.Add(20*time.Second))), ptr.To[int64](30)
	}
	return pod
}

// failsNow asks the core why the Job fails now, "" if it does not.
func failsNow(j *batchv1.Job, pods []*corev1.Pod) string {
	set := job.Decide(agreeNow, job.State{Job: j, Pods: pods, PodKind: kind.Pod()})
	for _, w := range set.Writes {
		if next, ok := w.Object.(*batchv1.Job); ok {
			if c := kind.JobCondition(&next.Status, batchv1.JobFailureTarget); c != nil {
				return c.Reason
			}
		}
	}
	return ""
}

// TestRestartsOfTerminatingPods: the restarts of pods that terminate count for the
// core, so they do in words.
func TestRestartsOfTerminatingPods(t *testing.T) {
	t.Parallel()
	j := agreeJob(corev1.RestartPolicyOnFailure, 3)
	j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed) // else the one that is deleted is a failure, besides
	pods := []*corev1.Pod{agreePod(j, 1, corev1.PodRunning, 1, false), agreePod(j, 2, corev1.PodRunning, 2, true)}
	if got := failsNow(j, pods); got != batchv1.JobReasonBackoffLimitExceeded {
		t.Fatalf("the core says %q", got)
	}
	a := Job(agreeNow, j, pods, nil)
	if text := a.String(); a.State != Terminating || !strings.Contains(text, "BackoffLimitExceeded") || strings.Contains(text, "now it is") {
		t.Errorf("the core fails the Job, this is said:\n%s", text)
	}
	pods[1].Status.ContainerStatuses[0].RestartCount = 1
	if a := Job(agreeNow, j, pods, nil); failsNow(j, pods) != "" || !strings.Contains(a.String(), "restarted 3 times; now it is 2") {
		t.Errorf("one restart before it fails, this is said:\n%s", a)
	}
}

// TestAgreesWithTheCore: whether a Job is about to fail, and why, is said as the core
// decides it, whatever the state.
func TestAgreesWithTheCore(t *testing.T) {
	t.Parallel()
	fails := 0
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 0))
		policy := []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}[r.IntN(2)]
		j := agreeJob(policy, int32(r.IntN(6)))
		j.Status.Failed = int32(r.IntN(3))
		if r.IntN(2) == 0 {
			j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed)
		}
		if r.IntN(4) == 0 {
			j.Spec.ActiveDeadlineSeconds = ptr.To(int64(r.IntN(1200)))
		}
		if r.IntN(4) == 0 {
			j.Spec.CompletionMode, j.Spec.BackoffLimitPerIndex = ptr.To(batchv1.IndexedCompletion), ptr.To(int32(r.IntN(2)))
			j.Spec.MaxFailedIndexes = ptr.To(int32(r.IntN(3)))
			j.Status.FailedIndexes = ptr.To([]string{"", "5", "4,5"}[r.IntN(3)])
		}
		var pods []*corev1.Pod
		for n := range r.IntN(5) {
			phase := []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodRunning, corev1.PodFailed, corev1.PodSucceeded, corev1.PodUnknown}[r.IntN(6)]
			pod := agreePod(j, n, phase, int32(r.IntN(3)), r.IntN(4) == 0)
			pod.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(n)}
			pods = append(pods, pod)
		}
		why := failsNow(j, pods)
		a := Job(agreeNow, j, pods, nil)
		if said := a.State == Terminating; said != (why != "") || said && !strings.Contains(a.String(), why) {
			t.Fatalf("seed %d: the core fails the Job for %q, this is said:\n%s", seed, why, a)
		}
		if why != "" {
			fails++
		}
	}
	if fails < 500 || fails > 4500 {
		t.Errorf("%d of 5000 Jobs fail", fails)
	}
}
