// Package statefulset is the core of apps/v1 StatefulSets: everything that Kubernetes'
// StatefulSet controller decides, as one pure function of a StatefulSet, its pods, claims
// and revisions, and the time.
//
// It owns the rules: which ordinals there are, in which order their pods come and go, what
// a pod of an ordinal is called and claims, and how an update goes through them. It
// refuses to know where objects live, to look at a clock or to remember anything between
// two decisions.
//
// The pods of a set come one after the other, unless it is Parallel: a decision goes
// through the ordinals until one has to be waited for.
//
//	replicas   each ordinal that is wanted, upwards: create, replace what has ended, wait
//	condemned  all others, downwards: delete, wait
//	update     pods of an older revision, downwards: delete as many as may be missing
package statefulset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/history"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// Component is the name under which decisions about StatefulSets are reported.
const Component = "statefulset-controller"

// batch bounds how many pods of a Parallel set one Set creates or deletes.
const batch = 500

// retry is how long a set waits for what no object's write tells of: the API takes no pod
// of its template, or the name of one is taken by a stranger.
const retry = 10 * time.Second

// State is what Decide reads. Nothing in it is modified or kept.
type State struct {
	// Set is the StatefulSet as read; its resourceVersion guards the decision.
	Set *appsv1.StatefulSet
	// Pods and Revisions hold those that the set controls and those of its namespace that
	// nothing controls, in any order.
	Pods      []*corev1.Pod
	Revisions []*appsv1.ControllerRevision
	// Pod, Claim and Revision return what has a name in the set's namespace, whose ever it
	// is; nil if nothing has.
	Pod      func(name string) *corev1.Pod
	Claim    func(name string) *corev1.PersistentVolumeClaim
	Revision func(name string) *appsv1.ControllerRevision
	// The rows: how a deletion begins, and what a template leaves out.
	SetKind, PodKind, RevisionKind *kind.Kind
	// Refused is why the API takes no pod of the set's template, as it was found when this
	// very decision was taken before; nil if it does, as far as is known.
	Refused error
}

// Decide returns what is to be done about a StatefulSet now. The set is empty when nothing
// is; it wakes at the next moment at which that changes by itself.
func Decide(now time.Time, s State) change.Set {
	d := decision{now: now, State: s, owner: ownerOf(s.Set)}
	d.sortPods()
	if !d.findRevisions() {
		return change.Set{} // it is being deleted, and its revisions are gone before it
	}
	d.sort()
	if s.Set.DeletionTimestamp == nil && d.manage() {
		d.roll()
	}
	return d.write()
}

// decision is what has been found out and made up about a set.
type decision struct {
	State
	now   time.Time
	owner podset.Owner

	pods      []*corev1.Pod // the set's, in any order
	adopted   map[*corev1.Pod]bool
	unmatched []*corev1.Pod // are the set's, and not as its pods are

	book            *history.Book
	current, update *appsv1.ControllerRevision // what pods were of before the update, and are to be of
	collisions      int32

	replicas  []*member // those that there are of ordinals that are wanted, the lowest first
	started   []*member // those of others of these that are created now, the lowest first
	condemned []*member // the highest ordinal first
	claims    []claimWrite
	stops     int  // how many are deleted
	stuck     bool // one cannot be created
	notes     []note
	wakeAt    time.Time
}

// member is the pod of an ordinal.
type member struct {
	pod     *corev1.Pod // as it was read, or as it is to be created
	ordinal int
	exists  bool // it was read
	start   bool // it is created now
	stop    bool // its deletion begins now
	fix     bool // it lacks a label
}

// note is what an event about the set says.
type note struct{ eventType, reason, message string }

func (d *decision) wake(at time.Time) {
	if !at.IsZero() && (d.wakeAt.IsZero() || at.Before(d.wakeAt)) {
		d.wakeAt = at
	}
}

func ownerOf(set *appsv1.StatefulSet) podset.Owner {
	return podset.Owner{
		Object: set, Kind: appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Selector: set.Spec.Selector, Template: &set.Spec.Template,
	}
}

// sortPods finds the set's pods: those that match its selector and have a name of it.
func (d *decision) sortPods() {
	claim := d.owner.Claims()
	d.adopted = make(map[*corev1.Pod]bool)
	for _, pod := range d.Pods {
		named := ordinalOf(d.Set, pod.Name) >= 0
		switch claim(pod) {
		case podset.Mine:
			if named {
				d.pods = append(d.pods, pod)
			} else {
				d.unmatched = append(d.unmatched, pod)
			}
		case podset.Unmatched:
			d.unmatched = append(d.unmatched, pod)
		case podset.Adoptable:
			if named {
				d.pods = append(d.pods, pod)
				d.adopted[pod] = true
			}
		}
	}
}

func monotonic(set *appsv1.StatefulSet) bool {
	return set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

func keyOf(set *appsv1.StatefulSet) change.Key { return kind.StatefulSets.Key(set.Namespace, set.Name) }
