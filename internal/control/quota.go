package control

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/quota"
)

// quotaController puts right what clients write into the status of ResourceQuotas. (The store
// accounts for what quotas count.)
func quotaController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.ResourceQuotas)
	return Controller{
		Name: "resourcequota",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			if ev.Key.Resource == kind.ResourceQuotas && ev.Op != change.Delete {
				add(ev.Key)
			}
		},
		Decide: func(_ time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return quota.Decide(k, obj.(*corev1.ResourceQuota))
		},
	}
}
