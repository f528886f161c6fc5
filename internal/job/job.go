// Package job is the core of batch/v1 Jobs: everything that Kubernetes' Job
// controller decides, as one pure function of a Job, its pods and the time.
//
// It owns the rules: how many pods a Job wants and which go first when they are
// too many, when a failed pod is retried and after what wait, what a pod's end
// means for the Job (podFailurePolicy, successPolicy, limits of the Job and of
// an index), and when and why the Job is over. It refuses to know where objects
// live, to look at a clock or to remember anything between two decisions: what
// has to outlive a decision stands in the objects.
//
// A pod is accounted for exactly once. It is created with the tracking
// finalizer; when it ends, or is given up, one set counts it in the Job's
// status and takes the finalizer away. As both happen in one commit, the list
// status.uncountedTerminatedPods is always empty, unless another controller left
// something in it, and a pod without the finalizer that has ended needs no
// second look.
//
//	             ┌──────── adopted (matches the selector, has no owner)
//	             ▼
//	created ─▶ active ─▶ succeeded | failed ─▶ counted and released
//	             │
//	             └─▶ deleted: by us (scaled down, suspended: never counted;
//	                 Job over: counted as failed), or by somebody else (a failure)
//
// The Job itself goes through
//
//	running ⇄ suspended
//	   ├─▶ SuccessCriteriaMet ─▶ Complete
//	   └─▶ FailureTarget ──────▶ Failed
//
// where the second step waits until no pod is left that runs or terminates, and
// is taken in the same set when there is none.
//
// A decision is a chain of values, each made of those before it and never changed
// after:
//
//	census    the pods, by what they are to the Job
//	progress  what the Job has got to with them
//	verdict   whether it is over, and why
//	plan      which pods are deleted and created, and what waits until when
//	account   which pods are counted, as what, and released
//	set       the writes and notes that carry all of it out
package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Component is the name under which decisions about Jobs are reported.
const Component = "job-controller"

// batch bounds how many pods one Set creates or deletes, and how many it
// counts, so that one big Job starves no other.
const batch = 500

// State is what Decide reads. Nothing in it is modified or kept.
type State struct {
	// Job is the Job as read; its resourceVersion guards the decision.
	Job *batchv1.Job
	// Pods holds the pods that the Job controls and those of its namespace that
	// nothing controls, in any order: the index terms kind.LivePods of its uid
	// and kind.StrayPods of the namespace. Those that the former leaves out make
	// no difference; a Job of ten thousand pods need not be read ten thousand
	// times.
	Pods []*corev1.Pod
	// PodKind is the row of pods: how a deletion begins.
	PodKind *kind.Kind
	// Refused is why the API takes no pod of the Job's template, as it was found when
	// this very decision was taken before; nil if it does, as far as is known.
	Refused error
	// Room is how many pods it takes all the same, when a quota refuses the others.
	Room int
	// Stepwise: the writes of a set happen one after the other, in their order, and
	// whoever carries it out may die between two of them, see ADR 8. What would be
	// forgotten or done twice then takes two decisions, see journal.
	Stepwise bool
}

// Decide returns what is to be done about a Job now. The set is empty when
// nothing is; it wakes at the next moment at which that changes by itself.
func Decide(now time.Time, s State) change.Set {
	switch {
	case ManagedElsewhere(s.Job):
		return tellManagedBy(now, s)
	case finished(s.Job):
		return releaseLeftovers(now, s)
	case !knownMode(s.Job):
		w := writer{now: now, s: s}
		w.note(warning(reason.UnknownCompletionMode, "Skipped Job sync because completion mode is unknown"))
		return w.set
	}
	c := takeCensus(s)
	p := progressOf(now, c)
	v := verdictOf(now, c, p)
	pl := planOf(now, s, c, p, v)
	a := accountOf(c, p, v, pl)
	d := decision{c, p, v, pl, a}
	if s.Stepwise {
		if set := journal(now, s, d); len(set.Writes) > 0 {
			return set
		}
	}
	return write(now, s, d)
}

// tellManagedBy explains why a new Job gets no pods.
func tellManagedBy(now time.Time, s State) change.Set {
	w := writer{now: now, s: s}
	if s.Job.Status.StartTime == nil && len(s.Job.Status.Conditions) == 0 {
		w.note(normal(reason.ManagedBy, "Not starting pods: spec.managedBy leaves the Job to "+*s.Job.Spec.ManagedBy))
	}
	return w.set
}

// releaseLeftovers frees the pods that still wait for a Job that is over.
func releaseLeftovers(now time.Time, s State) change.Set {
	w := writer{now: now, s: s, owner: ownerOf(s.Job)}
	for _, pod := range s.Pods {
		if !tracked(pod) || !metav1.IsControlledBy(pod, s.Job) {
			continue
		}
		if len(w.set.Writes) == batch {
			w.set.Wake(now)
			break
		}
		w.release(pod)
	}
	w.guardJob()
	return w.set
}

// ManagedElsewhere tells whether another controller owns the Job and all of its status.
func ManagedElsewhere(job *batchv1.Job) bool {
	return job.Spec.ManagedBy != nil && *job.Spec.ManagedBy != batchv1.JobControllerName
}

func knownMode(job *batchv1.Job) bool {
	m := job.Spec.CompletionMode
	return m == nil || *m == batchv1.NonIndexedCompletion || *m == batchv1.IndexedCompletion
}

func indexed(job *batchv1.Job) bool { return kind.Indexed(&job.Spec) }

// perIndex: failures are limited, and retries wait, index by index.
func perIndex(job *batchv1.Job) bool {
	return job.Spec.BackoffLimitPerIndex != nil && indexed(job)
}

func suspended(job *batchv1.Job) bool {
	return job.Spec.Suspend != nil && *job.Spec.Suspend
}

// ReplacesOnlyFailed tells whether a pod that is being deleted is neither a failure
// nor to be replaced before it has ended.
func ReplacesOnlyFailed(job *batchv1.Job) bool {
	p := job.Spec.PodReplacementPolicy
	return p != nil && *p == batchv1.Failed || job.Spec.PodFailurePolicy != nil
}
