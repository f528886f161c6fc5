package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// The reasons of conditions.
const (
	minimumReplicasAvailable   = "MinimumReplicasAvailable"
	minimumReplicasUnavailable = "MinimumReplicasUnavailable"
	newReplicaSetCreated       = "NewReplicaSetCreated"
	foundNewReplicaSet         = "FoundNewReplicaSet"
	replicaSetUpdated          = "ReplicaSetUpdated"
	newReplicaSetAvailable     = "NewReplicaSetAvailable"
	progressDeadlineExceeded   = "ProgressDeadlineExceeded"
	deploymentPaused           = "DeploymentPaused"
	deploymentResumed          = "DeploymentResumed"
)

// count returns the status that follows from what the ReplicaSets say of themselves.
func (d *decision) count() appsv1.DeploymentStatus {
	st := appsv1.DeploymentStatus{
		ObservedGeneration: d.next.Generation, CollisionCount: d.next.Status.CollisionCount,
		Conditions: slices.Clone(d.next.Status.Conditions), TerminatingReplicas: ptr.To[int32](0),
	}
	for _, s := range d.all() {
		of := &s.next.Status
		st.Replicas += of.Replicas
		st.ReadyReplicas += of.ReadyReplicas
		st.AvailableReplicas += of.AvailableReplicas
		if s == d.fresh {
			st.UpdatedReplicas = of.Replicas
		}
		switch {
		case of.TerminatingReplicas == nil && of.ObservedGeneration == 0: // it has said nothing yet
		case of.TerminatingReplicas == nil:
			st.TerminatingReplicas = nil
		case st.TerminatingReplicas != nil:
			*st.TerminatingReplicas += *of.TerminatingReplicas
		}
	}
	st.UnavailableReplicas = int32(min(max(total(d.all())-int(st.AvailableReplicas), 0), math.MaxInt32))
	if st.AvailableReplicas >= d.want()-d.mayMiss() {
		d.setCondition(&st, appsv1.DeploymentAvailable, corev1.ConditionTrue, minimumReplicasAvailable, "Deployment has minimum availability.")
	} else {
		d.setCondition(&st, appsv1.DeploymentAvailable, corev1.ConditionFalse, minimumReplicasUnavailable, "Deployment does not have minimum availability.")
	}
	return st
}

// complete reports whether a status says that all pods are of the present template, and
// available.
func (d *decision) complete(st appsv1.DeploymentStatus) bool {
	return st.UpdatedReplicas == d.want() && st.Replicas == d.want() && st.AvailableReplicas == d.want() && st.ObservedGeneration >= d.next.Generation
}

// report makes the status of a rollout: what there is, and whether it gets on.
func (d *decision) report() {
	st := d.count()
	if !d.hasDeadline() {
		removeCondition(&st, appsv1.DeploymentProgressing)
	} else {
		d.judge(&st)
	}
	d.passFailures(&st)
	d.next.Status = st
	d.awaitDeadline()
}

// judge says whether the rollout is over, gets on, or has not for too long.
func (d *decision) judge(st *appsv1.DeploymentStatus) {
	was := condition(d.next.Status, appsv1.DeploymentProgressing)
	if st.Replicas == st.UpdatedReplicas && was != nil && was.Reason == newReplicaSetAvailable {
		return // it was over before: what happens to single pods since is another matter
	}
	who := fmt.Sprintf("Deployment %q", d.next.Name)
	if d.fresh != nil {
		who = fmt.Sprintf("ReplicaSet %q", d.fresh.next.Name)
	}
	switch {
	case d.complete(*st):
		d.setCondition(st, appsv1.DeploymentProgressing, corev1.ConditionTrue, newReplicaSetAvailable, who+" has successfully progressed.")
	case progresses(d.next.Status, *st):
		// Unlike any other condition it is written again with the same reason: when
		// something happened last is what the deadline is counted from.
		removeCondition(st, appsv1.DeploymentProgressing)
		d.setCondition(st, appsv1.DeploymentProgressing, corev1.ConditionTrue, replicaSetUpdated, who+" is progressing.")
		if was != nil && was.Status == corev1.ConditionTrue {
			st.Conditions[len(st.Conditions)-1].LastTransitionTime = was.LastTransitionTime
		}
	case was != nil && was.Reason != newReplicaSetAvailable && (was.Reason == progressDeadlineExceeded || !d.now.Before(d.deadline(was))):
		d.setCondition(st, appsv1.DeploymentProgressing, corev1.ConditionFalse, progressDeadlineExceeded, who+" has timed out progressing.")
	}
}

// progresses reports whether there are more new pods, fewer old ones, or more that are
// ready or available.
func progresses(was, is appsv1.DeploymentStatus) bool {
	return is.UpdatedReplicas > was.UpdatedReplicas || is.Replicas-is.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		is.ReadyReplicas > was.ReadyReplicas || is.AvailableReplicas > was.AvailableReplicas
}

func (d *decision) hasDeadline() bool {
	seconds := d.next.Spec.ProgressDeadlineSeconds
	return seconds != nil && *seconds != math.MaxInt32
}

// deadline is when something has to have happened since a condition was written.
func (d *decision) deadline(since *appsv1.DeploymentCondition) time.Time {
	return since.LastUpdateTime.Add(time.Duration(*d.next.Spec.ProgressDeadlineSeconds) * time.Second)
}

// awaitDeadline looks again when the deadline is over: nothing may happen until then.
func (d *decision) awaitDeadline() {
	c := condition(d.next.Status, appsv1.DeploymentProgressing)
	if !d.hasDeadline() || c == nil || d.complete(d.next.Status) || c.Reason == progressDeadlineExceeded {
		return
	}
	if at := d.deadline(c); at.After(d.now) {
		d.wake(at)
	}
}

// passFailures says why pods of the ReplicaSets are refused, of the new one first.
func (d *decision) passFailures(st *appsv1.DeploymentStatus) {
	sets := d.all()
	if d.fresh != nil {
		sets = append([]*replicaSet{d.fresh}, d.old...)
	}
	for _, s := range sets {
		for _, c := range s.next.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				putCondition(st, appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime,
				})
				return
			}
		}
	}
	removeCondition(st, appsv1.DeploymentReplicaFailure)
}

// notePause says that a Deployment is paused, or goes on: the time between does not count
// for its deadline. That it had not got on before stands.
func (d *decision) notePause() {
	c := condition(d.next.Status, appsv1.DeploymentProgressing)
	if !d.hasDeadline() || c != nil && c.Reason == progressDeadlineExceeded {
		return
	}
	switch told := c != nil && c.Reason == deploymentPaused; {
	case d.next.Spec.Paused && !told:
		d.setCondition(&d.next.Status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, deploymentPaused, "Deployment is paused")
	case !d.next.Spec.Paused && told:
		d.setCondition(&d.next.Status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, deploymentResumed, "Deployment is resumed")
	}
}

func condition(st appsv1.DeploymentStatus, of appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == of {
			return &st.Conditions[i]
		}
	}
	return nil
}

// setCondition writes a condition as of now.
func (d *decision) setCondition(st *appsv1.DeploymentStatus, of appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(d.now.Truncate(time.Second))
	putCondition(st, appsv1.DeploymentCondition{
		Type: of, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now,
	})
}

// putCondition writes a condition, the last of all, unless it says the same already. The
// list is the status' own.
func putCondition(st *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if was := condition(*st, c.Type); was != nil && was.Status == c.Status {
		if was.Reason == c.Reason {
			return
		}
		c.LastTransitionTime = was.LastTransitionTime
	}
	removeCondition(st, c.Type)
	st.Conditions = append(st.Conditions, c)
}

func removeCondition(st *appsv1.DeploymentStatus, of appsv1.DeploymentConditionType) {
	st.Conditions = slices.DeleteFunc(st.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == of })
}
