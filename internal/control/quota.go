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
	return alone("resourcequota", k.Resource, func(_ time.Time, _ change.View, obj change.Object) change.Set {
		return quota.Decide(k, obj.(*corev1.ResourceQuota))
	})
}
