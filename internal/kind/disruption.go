package kind

import (
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	budgethelper "k8s.io/component-helpers/apps/poddisruptionbudget"
)

// PodReady reports whether the pod says that it is ready.
func PodReady(pod *corev1.Pod) bool {
	c := PodCondition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Guards reports whether a budget is one of the pod's.
func Guards(budget *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	if budget.Namespace != pod.Namespace {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}

// BudgetsOf returns the budgets that guard a pod.
func BudgetsOf(pod *corev1.Pod, others Getter) (found []*policyv1.PodDisruptionBudget) {
	for obj := range others.List(PodDisruptionBudgets, pod.Namespace) {
		if budget := obj.(*policyv1.PodDisruptionBudget); Guards(budget, pod) {
			found = append(found, budget)
		}
	}
	return found
}

// maxDisruptedPods is how many evictions may wait to be seen by who computes the status.
const maxDisruptedPods = 2000

// Unguarded reports whether a budget lets the pod go without being asked: it disrupts nothing,
// since it is over, was never begun, or goes anyway.
func Unguarded(pod *corev1.Pod) bool {
	return PodEnded(pod) || pod.Status.Phase == corev1.PodPending || pod.DeletionTimestamp != nil
}

// Spend returns the budget of a pod as it is when the pod is evicted, or, as the API's error, why
// it must not be. nil: the eviction costs it nothing, as the pod is no healthy one.
func Spend(budget *policyv1.PodDisruptionBudget, pod *corev1.Pod, now time.Time) (*policyv1.PodDisruptionBudget, error) {
	status := &budget.Status
	if !PodReady(pod) {
		policy := budget.Spec.UnhealthyPodEvictionPolicy
		always := policy != nil && *policy == policyv1.AlwaysAllow
		if always || status.CurrentHealthy >= status.DesiredHealthy && status.DesiredHealthy > 0 {
			return nil, nil
		}
	}
	switch {
	case status.ObservedGeneration < budget.Generation:
		err := apierrors.NewTooManyRequests(wouldViolate, 10)
		return nil, because(err, fmt.Sprintf("The disruption budget %s is still being processed by the server.", budget.Name))
	case status.DisruptionsAllowed < 0:
		err := apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), budget.Name, errors.New("pdb disruptions allowed is negative"))
		return nil, because(err, fmt.Sprintf("The disruption budget %s does not allow evicting pods currently: pdb disruptions allowed is negative", budget.Name))
	case len(status.DisruptedPods) > maxDisruptedPods:
		err := apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), budget.Name,
			errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
		return nil, because(err, fmt.Sprintf("The disruption budget %s does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller", budget.Name))
	case status.DisruptionsAllowed == 0:
		return nil, because(apierrors.NewTooManyRequests(wouldViolate, 0), whyNone(budget))
	}
	next := *budget // shares everything but the status
	budget.Status.DeepCopyInto(&next.Status)
	next.Status.DisruptionsAllowed--
	if next.Status.DisruptionsAllowed == 0 {
		budgethelper.UpdateDisruptionAllowedCondition(&next)
	}
	next.Status.DisruptedPods = maps.Clone(next.Status.DisruptedPods)
	if next.Status.DisruptedPods == nil {
		next.Status.DisruptedPods = map[string]metav1.Time{}
	}
	next.Status.DisruptedPods[pod.Name] = metav1.NewTime(now.Truncate(time.Second))
	return &next, nil
}

const wouldViolate = "Cannot evict pod as it would violate the pod's disruption budget."

// because adds to an answer of the API what of the budget is its cause.
func because(err *apierrors.StatusError, message string) error {
	if err.ErrStatus.Details == nil {
		err.ErrStatus.Details = &metav1.StatusDetails{}
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: message})
	return err
}

// whyNone says why a budget allows no disruption.
func whyNone(budget *policyv1.PodDisruptionBudget) string {
	c := apimeta.FindStatusCondition(budget.Status.Conditions, policyv1.DisruptionAllowedCondition)
	says := c != nil && c.Status == metav1.ConditionFalse && c.Message != ""
	switch {
	case says && c.Reason == policyv1.SyncFailedReason:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %s", budget.Name, c.Message)
	case budget.Status.CurrentHealthy <= budget.Status.DesiredHealthy:
		return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", budget.Name, budget.Status.DesiredHealthy, budget.Status.CurrentHealthy)
	case says:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently (%s): %s", budget.Name, c.Reason, c.Message)
	}
	return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently", budget.Name)
}
