package deployment

import (
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// historyLimit is how many characters of earlier revisions a ReplicaSet keeps.
const historyLimit = 2000

// isOwn reports whether an annotation is of the object that it is on. All others of a
// Deployment its new ReplicaSet has, too, and gives back in a rollback.
func isOwn(key string) bool {
	switch key {
	case corev1.LastAppliedConfigAnnotation, kind.DeploymentRevision, kind.DeploymentRevisionHistory,
		kind.DeploymentDesiredReplicas, kind.DeploymentMaxReplicas, appsv1.DeprecatedRollbackTo:
		return true
	}
	return false
}

// copyAnnotations gives the new ReplicaSet those of the Deployment.
func (d *decision) copyAnnotations(s *replicaSet) {
	for key, value := range d.next.Annotations {
		if !isOwn(key) {
			s.annotate(key, value)
		}
	}
}

// renumber gives the new ReplicaSet a revision that is higher than those of the others. One
// that it had before it keeps in its history: the Deployment has come back to it. What is
// no number is left alone.
func (d *decision) renumber(s *replicaSet, revision string) {
	had, numbered := s.next.Annotations[kind.DeploymentRevision]
	before, err := strconv.ParseInt(had, 10, 64)
	if err != nil && had != "" {
		return
	}
	after, err := strconv.ParseInt(revision, 10, 64)
	if err != nil || before >= after {
		return
	}
	s.annotate(kind.DeploymentRevision, revision)
	if numbered {
		remember(s, had)
	}
}

// remember adds a revision to the ReplicaSet's history, for which the oldest make room.
func remember(s *replicaSet, revision string) {
	history := s.next.Annotations[kind.DeploymentRevisionHistory]
	if history == "" {
		s.annotate(kind.DeploymentRevisionHistory, revision)
		return
	}
	for history != "" && len(history)+1+len(revision) > historyLimit {
		_, history, _ = strings.Cut(history, ",")
	}
	switch {
	case history != "":
		s.annotate(kind.DeploymentRevisionHistory, history+","+revision)
	case len(revision) <= historyLimit:
		s.annotate(kind.DeploymentRevisionHistory, revision)
	}
}

// setRevision notes the revision of the new ReplicaSet on the Deployment.
func (d *decision) setRevision(revision string) {
	if had, ok := d.next.Annotations[kind.DeploymentRevision]; !ok || had != revision {
		metav1.SetMetaDataAnnotation(&d.next.ObjectMeta, kind.DeploymentRevision, revision)
	}
}

// revisionOf is the revision of a ReplicaSet; 0 if it has none.
func revisionOf(s *appsv1.ReplicaSet) (int64, error) {
	text, ok := s.Annotations[kind.DeploymentRevision]
	if !ok {
		return 0, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

// noteSize notes on a ReplicaSet of which size of the Deployment its own was made, so that
// another size can be told from the next step of a rollout.
func (d *decision) noteSize(s *replicaSet) {
	s.annotate(kind.DeploymentDesiredReplicas, strconv.Itoa(int(d.want())))
	s.annotate(kind.DeploymentMaxReplicas, strconv.Itoa(int(d.want()+d.surge())))
}

// notedSize reads what noteSize has written; ok is false if that is not there.
func notedSize(s *replicaSet, key string) (n int32, ok bool) {
	value, err := strconv.ParseUint(s.next.Annotations[key], 10, 31)
	return int32(value), err == nil
}
