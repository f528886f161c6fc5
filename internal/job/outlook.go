package job

import (
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// Wait is the back-off that a Job is in. The zero Wait is none.
type Wait struct {
	// Until is when the next pod may start; with backoffLimitPerIndex that of
	// the first of Indexes.
	Until time.Time
	// Failures is how many pods failed in a row; 0 with backoffLimitPerIndex.
	Failures int32
	// Indexes are those that wait, each for itself, with backoffLimitPerIndex.
	Indexes Indexes
}

// Backoff returns what a Job waits for before it retries what failed, for those
// who only look. Where BackoffAnnotation is missing, because another controller
// keeps the row of failures to itself, it is made out from the Job's pods.
func Backoff(now time.Time, j *batchv1.Job, pods []*corev1.Pod) Wait {
	if finished(j) || suspended(j) {
		return Wait{}
	}
	if perIndex(j) {
		return backoffOfIndexes(now, j, pods)
	}
	s := parseStreak(j.Annotations[BackoffAnnotation])
	if s.failures == 0 {
		var succeeded, failed []*corev1.Pod
		for _, pod := range pods {
			switch pod.Status.Phase {
			case corev1.PodSucceeded:
				succeeded = append(succeeded, pod)
			case corev1.PodFailed:
				failed = append(failed, pod)
			}
		}
		s = s.after(succeeded, failed, now)
	}
	if at := s.until(); at.After(now) {
		return Wait{Until: at, Failures: s.failures}
	}
	return Wait{}
}

func backoffOfIndexes(now time.Time, j *batchv1.Job, pods []*corev1.Pod) Wait {
	x := indexes{
		done: ParseIndexes(j.Status.CompletedIndexes, math.MaxInt32),
		lost: ParseIndexes(ptr.Deref(j.Status.FailedIndexes, ""), math.MaxInt32),
	}
	var active, failed []*corev1.Pod
	for _, pod := range pods {
		switch {
		case !kind.PodEnded(pod):
			active = append(active, pod)
		case pod.Status.Phase == corev1.PodFailed && !losesIndex(j, pod):
			failed = append(failed, pod)
		}
	}
	x.running, _ = collect(active, completions(j))
	var w Wait
	var c collector
	for i, pod := range holdFailed(completions(j), failed, x) {
		if at := retryAt(pod, now); i != noIndex && at.After(now) {
			c.add(i)
			if w.Until.IsZero() || at.Before(w.Until) {
				w.Until = at
			}
		}
	}
	w.Indexes, _ = c.set()
	return w
}

// WaitAfter is how long no pod is started after so many failures in a row.
func WaitAfter(failures int32) time.Duration { return backoff(failures) }

// Ignored reports whether podFailurePolicy lets a pod's failure not count, and
// by the rule at which index.
func Ignored(j *batchv1.Job, pod *corev1.Pod) (rule int, ignored bool) {
	f := judge(j.Spec.PodFailurePolicy, pod)
	return f.rule, !f.counted()
}

// EndOf is when a pod ended, as well as it tells.
func EndOf(pod *corev1.Pod) time.Time { return endOf(pod) }
