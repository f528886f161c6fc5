package control

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// expiryController deletes finished Jobs when their time to live is over.
func expiryController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.Jobs)
	return Controller{
		Name: "ttl-after-finished",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			if j, ok := ev.Object.(*batchv1.Job); ok && ev.Op != change.Delete && j.Spec.TTLSecondsAfterFinished != nil {
				add(ev.Key)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return sweep.ExpiredJob(now, sweep.Item{Kind: k, Object: obj})
		},
	}
}
