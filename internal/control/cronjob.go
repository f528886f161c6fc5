package control

import (
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/kind"
)

// cronController starts the Jobs of CronJobs.
func cronController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(kind.CronJobs)
	zones := zoneCache{load: time.LoadLocation, now: time.Now}
	return Controller{
		Name: "cronjob",
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case kind.CronJobs:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case kind.Jobs:
				controllersOf(k, ev, add)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return decideCronJob(now, view, kinds, zones.find, obj.(*batchv1.CronJob), refused)
		},
	}
}

func decideCronJob(now time.Time, view change.View, kinds *kind.Kinds, zones cron.Zones, c *batchv1.CronJob, refused error) change.Set {
	ns, ok := view.Get(kind.Namespaces.Key("", c.Namespace))
	if !ok {
		return change.Set{}
	}
	return cron.Decide(now, cron.State{
		CronJob: c,
		Jobs:    jobsOfCron(view, c),
		Job: func(name string) *batchv1.Job {
			if obj, ok := view.Get(kind.Jobs.Key(c.Namespace, name)); ok {
				return obj.(*batchv1.Job)
			}
			return nil
		},
		Namespace: ns.(*corev1.Namespace),
		JobKind:   kinds.ByResource(kind.Jobs),
		Zones:     zones,
		UID:       types.UID(uuid.NewString()),
		Refused:   refused,
	})
}

// jobsOfCron returns the Jobs that the CronJob controls.
func jobsOfCron(view change.View, c *batchv1.CronJob) []*batchv1.Job {
	var found []*batchv1.Job
	for _, obj := range view.Owned(c.UID) {
		if j, ok := obj.(*batchv1.Job); ok && metav1.IsControlledBy(j, c) {
			found = append(found, j)
		}
	}
	return found
}
