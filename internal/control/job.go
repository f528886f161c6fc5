package control

import (
	"errors"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
)

// jobController runs Jobs. stepwise says that the source carries out the writes of a
// set one after the other.
func jobController(kinds *kind.Kinds, stepwise bool) Controller {
	k, podKind := kinds.ByResource(kind.Jobs), kinds.ByResource(kind.Pods)
	return Controller{
		Name: "job",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.Jobs:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.Pods:
				podOwners(view, k, jobSelector, ev, add)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			j := obj.(*batchv1.Job)
			s := job.State{Job: j, Pods: podsOf(view, j), PodKind: podKind, Refused: refused, Stepwise: stepwise}
			var refusal *change.Refusal
			if errors.As(refused, &refusal) {
				s.Refused, s.Room = refusal.Err, refusal.Taken
			}
			return job.Decide(now, s)
		},
	}
}

func jobSelector(obj change.Object) *metav1.LabelSelector { return obj.(*batchv1.Job).Spec.Selector }
