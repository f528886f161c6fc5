// Package deployment is the core of apps/v1 Deployments: everything that Kubernetes'
// Deployment controller decides, as one pure function of a Deployment, its ReplicaSets
// and the time.
//
// It owns the rules: which ReplicaSet is of the present template, how large each is to be
// on the way from the others to that one, which are kept to go back to, and what the
// Deployment says of its progress. It makes no pods: ReplicaSets do. It refuses to know
// where objects live, to look at a clock or to remember anything between two decisions.
//
// Decisions follow Kubernetes' controller step by step, so that a rollout looks the same
// from outside. What that writes one object after the other is one Set here:
//
//	claim    whose ReplicaSets there are, and which is the new one
//	scale    if it is paused, or its size has changed: all keep their proportion
//	roll     else, as the strategy says: the new one up, the old ones down
//	status   what there is then, and whether it gets on
package deployment

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// Component is the name under which decisions about Deployments are reported.
const Component = "deployment-controller"

// refusedRetry is how long a Deployment waits whose ReplicaSet is refused: what refuses it
// is no object that would wake it.
const refusedRetry = 10 * time.Second

// State is what Decide reads. Nothing in it is modified or kept.
type State struct {
	// Deployment is as it was read; its resourceVersion guards the decision.
	Deployment *appsv1.Deployment
	// Sets holds the ReplicaSets that it controls and those of its namespace that nothing
	// controls, in any order.
	Sets []*appsv1.ReplicaSet
	// Set returns the ReplicaSet of a name in the Deployment's namespace, whose ever it is;
	// nil if there is none. Pods returns the pods that a ReplicaSet controls.
	Set  func(name string) *appsv1.ReplicaSet
	Pods func(set types.UID) []*corev1.Pod
	// SetKind is the row: how a deletion begins.
	SetKind *kind.Kind
	// Refused is why the API does not take the ReplicaSet of the present template, as it was
	// found when this very decision was taken before; nil if it does, as far as is known.
	Refused error
}

// Decide returns what is to be done about a Deployment now. The set is empty when nothing
// is; it wakes at the next moment at which that changes by itself.
func Decide(now time.Time, s State) change.Set {
	d := &decision{State: s, now: now, next: copyOf(s.Deployment)}
	d.claim()
	d.act()
	return d.write()
}

// decision is what has been found out and made up about a Deployment.
type decision struct {
	State
	now time.Time

	next    *appsv1.Deployment // as it is to be
	fresh   *replicaSet        // of the present template; nil if there is none
	old     []*replicaSet      // the others, the oldest first
	gone    []*replicaSet      // are not kept any longer
	foreign []*replicaSet      // are the Deployment's, but match its selector no longer
	notes   []note
	wakeAt  time.Time
}

// replicaSet is one that was read, or is new: read is nil then. next is it as it is to be,
// the same as long as nothing changes; nil if it goes.
type replicaSet struct{ read, next *appsv1.ReplicaSet }

// note is what an event about the Deployment says.
type note struct{ eventType, reason, message string }

func (d *decision) wake(at time.Time) {
	if d.wakeAt.IsZero() || at.Before(d.wakeAt) {
		d.wakeAt = at
	}
}

// act takes the steps that the Deployment's state asks for.
func (d *decision) act() {
	if d.next.DeletionTimestamp != nil {
		d.syncRevision()
		d.next.Status = d.count()
		return
	}
	d.notePause()
	switch revision, back := d.rollbackTo(); {
	case d.next.Spec.Paused:
		d.sync()
	case back:
		if d.begin() {
			d.rollBack(revision)
		}
	case d.resized():
		d.sync()
	case d.next.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		d.recreate()
	default:
		d.roll()
	}
}

// sync brings the ReplicaSets to the Deployment's size without going on with a rollout.
func (d *decision) sync() {
	d.syncRevision()
	d.scale()
	if d.next.Spec.Paused {
		d.forget()
	}
	d.next.Status = d.count()
}

func ownerOf(d *appsv1.Deployment) podset.Owner {
	return podset.Owner{
		Object: d, Kind: appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Selector: d.Spec.Selector, Template: &d.Spec.Template,
	}
}

func keyOf(d *appsv1.Deployment) change.Key { return kind.Deployments.Key(d.Namespace, d.Name) }
