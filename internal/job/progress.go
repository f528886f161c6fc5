package job

import (
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// progress is what the Job has got to, the pods that are not counted yet
// included.
type progress struct {
	successes, failures int32   // in an Indexed Job, successes are indexes
	streak              streak  // without backoffLimitPerIndex
	index               indexes // of an Indexed Job
}

// indexes is what the indexes of an Indexed Job have got to.
type indexes struct {
	done      Indexes               // have succeeded
	completed string                // and as status.completedIndexes spells them
	running   Indexes               // have an active pod
	distinct  bool                  // and every active pod has an index of its own
	lost      Indexes               // with backoffLimitPerIndex: have failed for good
	fresh     Indexes               // and the status does not say so yet
	held      map[int32]*corev1.Pod // with backoffLimitPerIndex: see holdFailed
}

func progressOf(now time.Time, c census) progress {
	p := progress{failures: c.counted.failed}
	for _, pod := range c.failed {
		if judge(c.job.Spec.PodFailurePolicy, pod).counted() {
			p.failures++
		}
	}
	if indexed(c.job) {
		p.index = indexesOf(c)
		p.successes = p.index.done.Len()
	} else {
		p.successes = c.counted.succeeded + int32(len(c.succeeded))
	}
	if !perIndex(c.job) {
		p.streak = parseStreak(c.job.Annotations[BackoffAnnotation]).after(c.succeeded, c.failed, now)
	}
	return p
}

// enough: the Job has what it was made for.
func (p progress) enough(job *batchv1.Job) bool {
	if job.Spec.Completions == nil {
		return p.successes > 0
	}
	return p.successes >= *job.Spec.Completions
}

// indexesOf works out which indexes have succeeded and, with
// backoffLimitPerIndex, which have failed for good.
//
// An index ends once: a pod that was adopted may bring another end of one that
// has, which then counts as a pod, but not as an index.
func indexesOf(c census) indexes {
	n, st := completions(c.job), &c.job.Status
	var x indexes
	x.running, x.distinct = collect(c.active, n)
	before, exact := parseIndexes(st.CompletedIndexes, n)
	ended, _ := collect(c.succeeded, n)
	var lostBefore Indexes
	if perIndex(c.job) {
		lostBefore = ParseIndexes(ptr.Deref(st.FailedIndexes, ""), n)
		ended = ended.minus(lostBefore)
	}
	x.done, x.completed = before.union(ended), st.CompletedIndexes
	if !exact || len(c.succeeded) > 0 {
		x.completed = x.done.String()
	}
	if !perIndex(c.job) {
		return x
	}
	lost := lostBy(c.job, c.failed).minus(x.done)
	x.lost, x.fresh = lostBefore.union(lost), lost.minus(lostBefore)
	x.held = holdFailed(n, c.failed, x)
	return x
}

// lostBy returns the indexes of failed pods that are not granted another one.
func lostBy(job *batchv1.Job, failed []*corev1.Pod) Indexes {
	var c collector
	for _, pod := range failed {
		if losesIndex(job, pod) {
			c.add(indexOf(pod, completions(job)))
		}
	}
	set, _ := c.set()
	return set
}

// losesIndex: this failure is the last that its index is granted.
func losesIndex(job *batchv1.Job, pod *corev1.Pod) bool {
	f := judge(job.Spec.PodFailurePolicy, pod)
	return f.action == batchv1.PodFailurePolicyActionFailIndex ||
		f.counted() && earlierFailures(pod) >= *job.Spec.BackoffLimitPerIndex
}

// holdFailed picks, for every index that is going to be retried, the failed pod
// that its next pod inherits the count of failures from. It stays uncounted, and
// so cannot vanish, until that one is created.
func holdFailed(completions int32, failed []*corev1.Pod, x indexes) map[int32]*corev1.Pod {
	if len(failed) == 0 {
		return nil
	}
	held := make(map[int32]*corev1.Pod)
	for _, pod := range failed {
		i := indexOf(pod, completions)
		if x.done.Has(i) || x.lost.Has(i) || x.running.Has(i) {
			continue
		}
		if have := held[i]; have == nil || laterFailure(pod, have) {
			held[i] = pod
		}
	}
	return held
}

// laterFailure: a carries the longer row of failures of their index.
func laterFailure(a, b *corev1.Pod) bool {
	return earlierFailures(a)+earlierIgnored(a) >= earlierFailures(b)+earlierIgnored(b) && !endOf(a).Before(endOf(b))
}

// collect is the set of the valid indexes of pods; distinct says that every
// pod has one, and no two the same.
func collect(pods []*corev1.Pod, completions int32) (set Indexes, distinct bool) {
	c := collector{make([]int32, 0, len(pods))}
	for _, pod := range pods {
		if i := indexOf(pod, completions); i != noIndex {
			c.add(i)
		}
	}
	set, distinct = c.set()
	return set, distinct && len(c.indexes) == len(pods)
}

// completions is how many successes the Job asks for: no end of them in a work
// queue.
func completions(job *batchv1.Job) int32 { return ptr.Deref(job.Spec.Completions, math.MaxInt32) }

func parallelism(job *batchv1.Job) int32 { return ptr.Deref(job.Spec.Parallelism, 1) }
