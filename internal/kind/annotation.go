package kind

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Annotations in which a controller keeps what Kubernetes' controllers keep in
// memory, see the packages cron, job and daemonset.
const (
	CronJobSchedule  = "sampan.dev/schedule"
	CronJobExplained = "sampan.dev/explained-until"
	Backoff          = "sampan.dev/backoff" // of Jobs, and of DaemonSets
)

// Annotations that say where a Job comes from.
const (
	// JobRerunOf names the Job that one runs once more.
	JobRerunOf = "sampan.dev/rerun-of"
	// JobCarriedIndexes names the indexes of that Job that need no second run.
	JobCarriedIndexes = "sampan.dev/carried-indexes"
	// JobInstantiate marks Jobs of a CronJob that were started by hand, as kubectl
	// does: "manual".
	JobInstantiate = "cronjob.kubernetes.io/instantiate"
)

// Annotations of ReplicaSets by which a Deployment knows them; it has the first itself, too.
const (
	DeploymentRevision        = "deployment.kubernetes.io/revision"
	DeploymentRevisionHistory = "deployment.kubernetes.io/revision-history"
	DeploymentDesiredReplicas = "deployment.kubernetes.io/desired-replicas"
	DeploymentMaxReplicas     = "deployment.kubernetes.io/max-replicas"
)

// keepAnnotations keeps those of a controller when a client writes the whole
// object anew, as it knows it: without them. They can be changed, not removed.
func keepAnnotations(obj, old *metav1.ObjectMeta) {
	for _, key := range []string{CronJobSchedule, CronJobExplained, Backoff} {
		keepAnnotation(obj, old, key)
	}
}

func keepAnnotation(obj, old metav1.Object, key string) {
	value, known := old.GetAnnotations()[key]
	if !known || obj.GetAnnotations()[key] != "" {
		return
	}
	all := obj.GetAnnotations()
	if all == nil {
		all = make(map[string]string, 1)
	}
	all[key] = value
	obj.SetAnnotations(all)
}
