package replicaset

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/podset"
	"github.com/sampan-batch/sampan/internal/reason"
)

// statusOf is the status when the plan has been carried out: with the pods that are
// created, and without those that are removed. Of these it says which are gone at once.
func statusOf(now time.Time, c census, p *plan, removed map[*corev1.Pod]bool) appsv1.ReplicaSetStatus {
	st := c.set.Status
	st.ObservedGeneration = c.set.Generation
	st.Replicas, st.ReadyReplicas, st.AvailableReplicas = int32(p.start), 0, 0
	st.FullyLabeledReplicas = st.Replicas // a new pod has the labels of the template
	terminating := int32(len(c.terminating))
	template := labels.Set(c.set.Spec.Template.Labels).AsSelectorPreValidated()
	for _, pod := range c.active {
		if gone, going := removed[pod]; going {
			if !gone {
				terminating++
			}
			continue
		}
		st.Replicas++
		if template.Matches(labels.Set(pod.Labels)) {
			st.FullyLabeledReplicas++
		}
		if !podset.Ready(pod) {
			continue
		}
		st.ReadyReplicas++
		available, at := podset.Available(pod, c.set.Spec.MinReadySeconds, now)
		p.wake(at)
		if available {
			st.AvailableReplicas++
		}
	}
	if c.countsTerminating {
		st.TerminatingReplicas = ptr.To(terminating)
	}
	st.Conditions = conditionsOf(now, st.Conditions, p.refused)
	return st
}

// conditionsOf says whether pods are refused. What was said first stays until none are.
func conditionsOf(now time.Time, conditions []appsv1.ReplicaSetCondition, refused error) []appsv1.ReplicaSetCondition {
	failed := func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure }
	switch told := slices.ContainsFunc(conditions, failed); {
	case refused != nil && !told:
		return append(slices.Clone(conditions), appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
			Reason: reason.FailedCreate, Message: refused.Error(),
		})
	case refused == nil && told:
		left := slices.DeleteFunc(slices.Clone(conditions), failed)
		if len(left) == 0 {
			return nil
		}
		return left
	}
	return conditions
}
