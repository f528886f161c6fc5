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

// Outlook is what the rules say of a Job that has not finished: where it stands, what
// is missing, how it ends if that is certain, and what it waits for. It is found as
// Decide finds it, for those who only look.
type Outlook struct {
	// Active, Terminating and Uncounted are pods of the Job, by name: those that run
	// or are about to, those that are being deleted and have not ended yet, and those
	// that have succeeded, which the status does not say yet.
	Active, Terminating, Uncounted []*corev1.Pod
	// Lost are the indexes that have failed for good.
	Lost Indexes
	// Missing is how many pods it would start now, if nothing stopped it; Later how
	// many more when others have ended. AfterEnd: not before those that terminate have.
	Missing, Later int
	AfterEnd       bool
	// Verdict is how the Job ends; zero as long as that is open.
	Verdict Verdict
	// Wait is the back-off that it is in.
	Wait Wait
	// Limits is how far it is from failing.
	Limits Limits
}

// Verdict is how a Job ends.
type Verdict struct {
	Target          batchv1.JobConditionType // SuccessCriteriaMet or FailureTarget; "" is none
	Reason, Message string
	Recorded        bool // the Job's conditions say so already
}

// Limits is what has been used up of what a Job may, the pods that are not counted
// yet included.
type Limits struct {
	Backoff  int32     // backoffLimit; math.MaxInt32 is none
	Failures int32     // pods that failed
	Restarts int64     // of containers, where these count towards backoffLimit
	Deadline time.Time // zero if there is none, or it has not started
}

// Look returns the outlook of a Job with the pods that it controls.
func Look(now time.Time, j *batchv1.Job, pods []*corev1.Pod) Outlook {
	c := census{job: j, counted: ledgerOf(j)}
	for _, pod := range pods {
		c.sort(pod, len(pods))
	}
	p := progressOf(now, c)
	o := Outlook{
		Active: byName(c.active), Terminating: byName(c.terminating), Uncounted: byName(c.succeeded),
		Lost: p.index.lost, AfterEnd: ReplacesOnlyFailed(j), Wait: waitOf(now, c, p, pods),
		Limits: Limits{Backoff: backoffLimit(j), Failures: p.failures, Restarts: restartsOf(c)},
	}
	want := wanted(c, p)
	if n := j.Spec.Completions; n != nil {
		left := *n - p.successes - o.Lost.Len()
		want = min(want, left)
		o.Later = int(left) - len(c.active)
	}
	o.Missing = max(0, int(want)-len(c.active))
	o.Later = max(0, o.Later-o.Missing)
	if at, ok := deadline(now, j); ok && j.Status.StartTime != nil {
		o.Limits.Deadline = at
	}
	if v := verdictOf(now, c, p); !v.none() {
		o.Verdict = Verdict{v.target, v.reason, v.message, kind.JobCondition(&j.Status, v.target) != nil}
	}
	return o
}

// waitOf returns what a Job waits for before it retries what failed. Where
// BackoffAnnotation is missing, because another controller keeps the row of failures
// to itself, it is made out from the Job's pods.
func waitOf(now time.Time, c census, p progress, pods []*corev1.Pod) Wait {
	if finished(c.job) || suspended(c.job) {
		return Wait{}
	}
	if perIndex(c.job) {
		return backoffOfIndexes(now, c.job, pods)
	}
	s := p.streak
	if parseStreak(c.job.Annotations[BackoffAnnotation]).failures == 0 {
		var succeeded, failed []*corev1.Pod
		for _, pod := range pods {
			switch pod.Status.Phase {
			case corev1.PodSucceeded:
				succeeded = append(succeeded, pod)
			case corev1.PodFailed:
				failed = append(failed, pod)
			}
		}
		s = streak{}.after(succeeded, failed, now)
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
