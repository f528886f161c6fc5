package job

import (
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// census is the Job's pods, sorted by what they are to it. Pods that need no look
// are in no list.
type census struct {
	job     *batchv1.Job
	owner   podset.Owner
	counted ledger

	active      []*corev1.Pod        // run or are about to, and nobody deletes them
	terminating []*corev1.Pod        // are being deleted, but have not ended yet
	succeeded   []*corev1.Pod        // succeeded, not counted yet; by name
	failed      []*corev1.Pod        // failed as the Job sees it, not counted yet; by name
	void        []*corev1.Pod        // ended, tracked, but not to be counted: of no index of the Job, or counted
	unmatched   []*corev1.Pod        // are the Job's, but no longer match its selector
	adopted     map[*corev1.Pod]bool // those of the first five lists that have no owner yet
}

// ownerOf is the Job as the owner of its pods.
func ownerOf(job *batchv1.Job) podset.Owner {
	return podset.Owner{
		Object: job, Kind: batchv1.SchemeGroupVersion.WithKind("Job"),
		Selector: job.Spec.Selector, Template: &job.Spec.Template, Finalizer: batchv1.JobTrackingFinalizer,
	}
}

// ledger is what the Job's status says of pods that are counted.
type ledger struct {
	succeeded, failed int32
	// unreleased are pods that another controller, which counts in several steps,
	// left in status.uncountedTerminatedPods. They are counted here, and only
	// released if they are still there.
	unreleased map[types.UID]bool
}

func ledgerOf(job *batchv1.Job) ledger {
	l := ledger{succeeded: job.Status.Succeeded, failed: job.Status.Failed}
	u := job.Status.UncountedTerminatedPods
	if u == nil || len(u.Succeeded)+len(u.Failed) == 0 {
		return l
	}
	l.succeeded += int32(len(u.Succeeded))
	l.failed += int32(len(u.Failed))
	listed := u.Failed
	if !indexed(job) { // an index that is completed is not counted again anyway
		listed = slices.Concat(listed, u.Succeeded)
	}
	l.unreleased = make(map[types.UID]bool, len(listed))
	for _, uid := range listed {
		l.unreleased[uid] = true
	}
	return l
}

// takeCensus sorts out the pods of s: whose they are, and what they are to the Job.
func takeCensus(s State) census {
	c := census{job: s.Job, owner: ownerOf(s.Job), counted: ledgerOf(s.Job)}
	claim := c.owner.Claims()
	for _, pod := range s.Pods {
		switch claim(pod) {
		case podset.Mine:
			c.sort(pod, len(s.Pods))
		case podset.Unmatched:
			c.unmatched = append(c.unmatched, pod)
		case podset.Adoptable:
			if c.adopted == nil {
				c.adopted = make(map[*corev1.Pod]bool)
			}
			c.adopted[pod] = true
			c.sort(pod, len(s.Pods))
		}
	}
	// The order in which pods were listed must not show.
	byName(c.succeeded)
	byName(c.failed)
	return c
}

func byName(pods []*corev1.Pod) []*corev1.Pod {
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

// sort puts one of at most n pods where it belongs.
func (c *census) sort(pod *corev1.Pod, n int) {
	switch {
	case kind.PodEnded(pod):
		if c.open(pod) {
			c.sortEnded(pod)
		}
	case pod.DeletionTimestamp == nil:
		if c.active == nil {
			c.active = make([]*corev1.Pod, 0, n)
		}
		c.active = append(c.active, pod)
	default:
		c.terminating = append(c.terminating, pod)
		// Whoever deletes a pod makes it fail: it may never say so itself.
		if c.open(pod) && !ReplacesOnlyFailed(c.job) {
			c.sortEnded(pod)
		}
	}
}

// open: the pod has not been accounted for.
func (c *census) open(pod *corev1.Pod) bool { return tracked(pod) || c.adopted[pod] }

// sortEnded takes a pod that is over and is still to be released.
func (c *census) sortEnded(pod *corev1.Pod) {
	switch {
	case ofNoIndex(c.job, pod), c.counted.unreleased[pod.UID]:
		c.void = append(c.void, pod)
	case pod.Status.Phase == corev1.PodSucceeded:
		c.succeeded = append(c.succeeded, pod)
	default:
		c.failed = append(c.failed, pod)
	}
}

// ofNoIndex: the Job is Indexed, and the pod has no index of it.
func ofNoIndex(job *batchv1.Job, pod *corev1.Pod) bool {
	return indexed(job) && indexOf(pod, completions(job)) == noIndex
}
