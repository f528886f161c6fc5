package board

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// stopped is a pod that its Job has ended.
func stopped(j *batchv1.Job, name string) *corev1.Pod {
	p := aPod(j, name, "137")
	p.DeletionTimestamp = ptr.To(metav1.NewTime(t0))
	return p
}

// Pods that a Job stops when it is decided are not what failed: neither in the news, nor in
// the display, nor when somebody asks why.
func TestStoppedByJob(t *testing.T) {
	t.Parallel()
	j := aJob("j", 3)
	b := New(t0, true)
	b.Add(t0, j)
	b.Pod(after(1), aPod(j, "j-culprit", "42"), false)
	b.Pod(after(2), stopped(j, "j-a"), false)
	b.Pod(after(3), stopped(j, "j-b"), false)
	b.Job(after(4), ended(j, batchv1.JobFailed, "PodFailurePolicy"), false)
	if news := b.News(after(5), true); len(news) != 2 || news[0] != "✗ pod j-culprit: main exited with 42 after 1s; next try in 10s (2 of 3)" {
		t.Errorf("got %q", news)
	}
	if got := b.FirstFailure(after(5)); got != "job/j failed: main exited with 42 after 1s" {
		t.Errorf("got %q", got)
	}
	if n := b.failures(); n != 1 {
		t.Errorf("%d failures are shown", n)
	}
	pods := b.Results(after(5))[0].Pods
	if len(pods) != 3 || Culprit(pods).Name != "j-culprit" || !pods[1].StoppedByJob || pods[0].StoppedByJob {
		t.Errorf("got %+v", pods)
	}
	if Culprit(pods[1:]).Name != "j-b" || Culprit(nil) != nil {
		t.Error("who was stopped last says what there is to say when nobody failed")
	}
}

// What somebody else ends, or an eviction, is a failure.
func TestNotStoppedByJob(t *testing.T) {
	t.Parallel()
	j := aJob("j", 3)
	b := New(t0, true)
	b.Add(t0, j)
	evicted := stopped(j, "j-evicted")
	evicted.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	if b.Stopped(evicted) || b.Stopped(stopped(nil, "alone")) || b.Stopped(aPod(j, "j-x", "3")) || !b.Stopped(stopped(j, "j-y")) {
		t.Error("in a run")
	}

	open := New(t0, false) // where anybody may delete a pod
	open.Add(t0, j)
	if open.Stopped(stopped(j, "j-x")) {
		t.Error("a pod that somebody deleted is taken for one that its Job stopped")
	}
	decided := j.DeepCopy()
	decided.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}}
	open.Job(after(1), decided, false)
	if !open.Stopped(stopped(j, "j-x")) {
		t.Error("the Job is decided")
	}
}

// A container that is started again in its pod: each life that failed is told once, when it
// has, with the wait that follows.
func TestStartedAgain(t *testing.T) {
	t.Parallel()
	j := aJob("j", 1)
	b := New(t0, true)
	b.Add(t0, j)
	life := func(restarts int32, waits bool) *corev1.Pod {
		p := aPod(j, "j-x", "running")
		s := &p.Status.ContainerStatuses[0]
		s.RestartCount, s.LastTerminationState.Terminated = restarts, &corev1.ContainerStateTerminated{ExitCode: 3, FinishedAt: metav1.NewTime(after(float64(restarts)))}
		if waits {
			s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 10s restarting failed container=main"}}
		}
		return p
	}
	var told []string
	for i, p := range []*corev1.Pod{life(1, false), life(1, true), life(1, true), life(2, false), life(2, true)} {
		b.Pod(after(float64(i)+1), p, false)
		told = append(told, b.News(after(float64(i)+1.5), true)...)
	}
	if len(told) != 3 || told[0] != "✗ pod j-x: main exited with 3" || told[1] != "✗ pod j-x: main exited with 3; next try in 9s" {
		t.Errorf("got %q", told)
	}
}
