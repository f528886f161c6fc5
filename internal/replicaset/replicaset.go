// Package replicaset is the core of apps/v1 ReplicaSets and v1 ReplicationControllers:
// everything that Kubernetes' controllers of both decide, as one pure function of a set,
// its pods and the time.
//
// It owns the rules: whose a pod is, how many are missing or too many, and which of them
// go first. It refuses to know where objects live, to look at a clock or to remember
// anything between two decisions.
//
// A ReplicationController is a ReplicaSet with an older selector. It is read as the
// ReplicaSet that it would be and written back as itself, as Kubernetes does it: see
// flavor.
//
// A decision is a chain of values, each made of those before it and never changed after:
//
//	census   the pods: those that count, those that go, and those that are not the set's any more
//	plan     how many are created, and which are deleted
//	set      the writes and notes that carry all of it out, and the status then
package replicaset

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// batch bounds how many pods one Set creates or deletes, as in Kubernetes.
const batch = 500

// refusedRetry is how long a set waits whose pods are refused: what refuses them is no
// object that would wake it.
const refusedRetry = 10 * time.Second

// State is what Decide reads. Nothing in it is modified or kept.
type State struct {
	// Set is the ReplicaSet or ReplicationController as read; its resourceVersion guards
	// the decision.
	Set change.Object
	// Pods holds those that the set controls and those of its namespace that nothing
	// controls, in any order.
	Pods []*corev1.Pod
	// Related returns all pods of the sets that have the same controller, and of this one:
	// those of the node that has most of them go first. It is asked only when some go.
	Related func() []*corev1.Pod
	// PodKind is the row: how a deletion begins.
	PodKind *kind.Kind
	// Refused is why the API takes no pod of the set's template, or no more than Room of
	// them, as it was found when this very decision was taken before; nil if it does, as
	// far as is known.
	Refused error
	Room    int
}

// Decide returns what is to be done about a set now. The change.Set is empty when nothing
// is; it wakes at the next moment at which that changes by itself. One that is being
// deleted only counts.
func Decide(now time.Time, s State) change.Set {
	f, set := read(s.Set)
	c := takeCensus(f, set, s.Pods)
	return write(now, s, c, planOf(now, s, c))
}
