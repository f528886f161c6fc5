package job

import (
	"fmt"
	"math"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// progressOfIndexes works out which indexes have succeeded and, with
// backoffLimitPerIndex, which have failed for good.
//
// An index ends once: a pod that was adopted may bring another end of one that
// has, which then counts as a pod, but not as an index.
func (d *decision) progressOfIndexes() {
	done, exact := parseIndexes(d.Job.Status.CompletedIndexes, d.completions)
	ended, _ := d.indexesOf(d.succeeded)
	var before Indexes
	if d.perIndex {
		before = ParseIndexes(ptr.Deref(d.Job.Status.FailedIndexes, ""), d.completions)
		ended = ended.minus(before)
	}
	d.done = done.union(ended)
	d.successes = d.done.Len()
	if !exact || len(d.succeeded) > 0 {
		d.status.CompletedIndexes = d.done.String()
	}
	d.status.Succeeded = d.successes
	if !d.perIndex {
		d.status.FailedIndexes = nil
		return
	}
	var c collector
	for _, pod := range d.failed {
		if d.losesIndex(pod) {
			c.add(indexOf(pod, d.completions))
		}
	}
	now, _ := c.set()
	now = now.minus(d.done)
	d.lost = before.union(now)
	if text := d.lost.String(); d.status.FailedIndexes == nil || *d.status.FailedIndexes != text {
		d.status.FailedIndexes = &text
	}
	d.tellLost(now.minus(before))
	d.hold()
}

// losesIndex: this failure is the last that its index is granted.
func (d *decision) losesIndex(pod *corev1.Pod) bool {
	f := judge(d.Job.Spec.PodFailurePolicy, pod)
	return f.action == batchv1.PodFailurePolicyActionFailIndex ||
		f.counted() && earlierFailures(pod) >= *d.Job.Spec.BackoffLimitPerIndex
}

// tellLost explains that indexes are not retried any more.
func (d *decision) tellLost(indexes Indexes) {
	if len(indexes) > 0 {
		d.note(corev1.EventTypeWarning, "IndexFailed", "Not retrying "+naming(indexes)+": failed for good")
	}
}

// hold picks, for every index that is going to be retried, the failed pod that
// its next pod inherits the count of failures from. It stays uncounted, and so
// cannot vanish, until that one is created.
func (d *decision) hold() {
	if len(d.failed) == 0 {
		return
	}
	d.held = make(map[int32]*corev1.Pod)
	for _, pod := range d.failed {
		i := indexOf(pod, d.completions)
		if d.done.Has(i) || d.lost.Has(i) || d.running.Has(i) {
			continue
		}
		if have := d.held[i]; have == nil || laterFailure(pod, have) {
			d.held[i] = pod
		}
	}
}

// laterFailure: a carries the longer row of failures of their index.
func laterFailure(a, b *corev1.Pod) bool {
	return earlierFailures(a)+earlierIgnored(a) >= earlierFailures(b)+earlierIgnored(b) && !endOf(a).Before(endOf(b))
}

// inherit returns the counts of failures that the next pod of an index starts
// with.
func (d *decision) inherit(index int32) (failures, ignored int32) {
	pod := d.held[index]
	if pod == nil {
		return 0, 0
	}
	failures, ignored = earlierFailures(pod), earlierIgnored(pod)
	if judge(d.Job.Spec.PodFailurePolicy, pod).counted() {
		failures = inc(failures)
	} else {
		ignored = inc(ignored)
	}
	return failures, ignored
}

func inc(n int32) int32 {
	if n == math.MaxInt32 {
		return n
	}
	return n + 1
}

// indexesOf is the set of the valid indexes of pods; distinct says that every
// pod has one, and no two the same.
func (d *decision) indexesOf(pods []*corev1.Pod) (set Indexes, distinct bool) {
	c := collector{make([]int32, 0, len(pods))}
	for _, pod := range pods {
		if i := indexOf(pod, d.completions); i != noIndex {
			c.add(i)
		}
	}
	set, distinct = c.set()
	return set, distinct && len(c.indexes) == len(pods)
}

// startable returns up to n of the lowest indexes without a pod that still have
// to succeed. Those that wait for their back-off keep their turn: they are among
// the n, but not returned.
func (d *decision) startable(n int32) []int32 {
	var leaving Indexes
	if ReplacesOnlyFailed(d.Job) {
		leaving, _ = d.indexesOf(d.terminating)
	}
	next := missing(n, d.completions, d.done, d.running, d.lost, leaving)
	if len(d.held) == 0 {
		return next
	}
	now := next[:0]
	var waiting collector
	for _, i := range next {
		if pod := d.held[i]; pod != nil {
			if at := retryAt(pod, d.now); at.After(d.now) {
				waiting.add(i)
				d.set.Wake(at)
				continue
			}
		}
		now = append(now, i)
	}
	d.waiting, _ = waiting.set()
	return now
}

// tellWaiting explains, once for each failure, why indexes are not retried yet.
// told are those of which it was said before; it returns the next ones.
func (d *decision) tellWaiting(told Indexes) Indexes {
	var c collector
	for i := range d.held {
		if told.Has(i) {
			c.add(i)
		}
	}
	still, _ := c.set()
	if untold := d.waiting.minus(told); len(untold) > 0 {
		d.note(corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Waiting before retrying failed %s, until %s at the earliest",
			naming(untold), d.earliest(untold).UTC().Format(time.RFC3339)))
	}
	return still.union(d.waiting)
}

// earliest is when the first of these indexes may be retried.
func (d *decision) earliest(indexes Indexes) time.Time {
	var first time.Time
	for i := range indexes.All() {
		if at := retryAt(d.held[i], d.now); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// naming says which indexes are meant, in a length that suits an event.
func naming(indexes Indexes) string {
	text := indexes.String()
	if indexes.Len() == 1 {
		return "index " + text
	}
	if len(text) > 200 {
		text = text[:strings.LastIndexByte(text[:200], ',')] + ",…"
	}
	return "indexes " + text
}
