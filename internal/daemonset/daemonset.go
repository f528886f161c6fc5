// Package daemonset is the core of apps/v1 DaemonSets: everything that Kubernetes'
// DaemonSet controller decides, as one pure function of a DaemonSet, its pods and
// revisions, the nodes and the time.
//
// It owns the rules: which nodes are to have a pod, when one that has ended is replaced,
// and in which order pods of an older template give way. It refuses to know where
// objects live, to look at a clock or to remember anything between two decisions: when a
// pod that failed may be replaced stands in an annotation of the DaemonSet.
//
// A pod is of the node that its affinity names, from the moment at which it is created:
// who binds it finds no other that it may run on.
//
// A decision is a chain of values, each made of those before it and never changed after:
//
//	census   the pods by their nodes, and the nodes by what they are to the set
//	record   the revisions: the current one, and those before
//	plan     which nodes get a pod, which pods go, and what waits until when
//	set      the writes and notes that carry all of it out
package daemonset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// Component is the name under which decisions about DaemonSets are reported.
const Component = "daemonset-controller"

// batch bounds how many pods one Set creates, and how many it deletes.
const batch = 250

// refusedRetry is how long a set waits whose pods are refused: what refuses them is no
// object that would wake it.
const refusedRetry = 10 * time.Second

// State is what Decide reads. Nothing in it is modified or kept.
type State struct {
	// Set is the DaemonSet as read; its resourceVersion guards the decision.
	Set *appsv1.DaemonSet
	// Pods and Revisions hold those that the set controls and those of its namespace that
	// nothing controls, in any order.
	Pods      []*corev1.Pod
	Revisions []*appsv1.ControllerRevision
	// Nodes holds all nodes.
	Nodes []*corev1.Node
	// Revision returns the revision of a name in the set's namespace, whose ever it is;
	// nil if there is none.
	Revision func(name string) *appsv1.ControllerRevision
	// PodKind and RevisionKind are the rows: how a deletion begins.
	PodKind, RevisionKind *kind.Kind
	// Refused is why the API takes no pod of the set's template, as it was found when this
	// very decision was taken before; nil if it does, as far as is known.
	Refused error
}

// Decide returns what is to be done about a DaemonSet now. The set is empty when nothing
// is; it wakes at the next moment at which that changes by itself. Of one that is being
// deleted nobody can say any more what it wants, as its revisions may be gone before it.
func Decide(now time.Time, s State) change.Set {
	if s.Set.DeletionTimestamp != nil {
		return change.Set{}
	}
	c := takeCensus(s)
	r, free := recordOf(s, c)
	if !free {
		return bumpCollisions(s)
	}
	return write(now, s, c, r, planOf(now, s, c, r))
}

// bumpCollisions counts that the name of the current revision is taken by another, which
// makes for another name the next time.
func bumpCollisions(s State) change.Set {
	next := *s.Set
	count := int32(1)
	if s.Set.Status.CollisionCount != nil {
		count += *s.Set.Status.CollisionCount
	}
	next.Status.CollisionCount = &count
	var set change.Set
	set.Update(keyOf(s.Set), change.RevOf(s.Set), &next)
	return set
}

func keyOf(ds *appsv1.DaemonSet) change.Key { return kind.DaemonSets.Key(ds.Namespace, ds.Name) }
